"""How gradients become steps: the optimizer by name, the limit on their norm, the learning rate over time."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from engine.errors import UserError, did_you_mean, form_of

NO_LBFGS = (
    '"LBFGS" computes the loss many times in each step, which train.py does not: take another one, or write a loop '
    "of your own, docs/your-own-loop.md"
)
DECIDED = "fused_is_decided"  # beside an optimizer's own settings
WITHOUT_GAPS = (torch.contiguous_format, torch.channels_last, torch.channels_last_3d)


def make_optimizer(name: str, model: nn.Module, learning_rate: float, **arguments: Any) -> Optimizer:
    """The optimizer of `torch.optim` called `name` over all parameters of the model, fused where that is sound.

    Frozen parameters are among them, as they have no gradient until somebody thaws them. Arguments that are None are
    left to the optimizer's own defaults. Raises `UserError` for an unknown name or one that does not take an argument.
    """
    kinds = {kind: cls for kind, cls in vars(torch.optim).items() if _is_optimizer(cls)}
    if name not in kinds:
        raise UserError(f'"optimizer": there is no "{name}" in torch.optim{did_you_mean(name, kinds)}')
    if name == "LBFGS":
        raise UserError(f'"optimizer": {NO_LBFGS}')
    taken = inspect.signature(kinds[name]).parameters
    given = {key: value for key, value in arguments.items() if value is not None}
    for key in given:
        if key not in taken:
            raise UserError(f'"{key}" is no argument of the optimizer {name}; leave it out of params.json')
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError("the network has no parameter to train; all are frozen")
    try:
        optimizer = kinds[name](model.parameters(), lr=learning_rate, **given)
    except ValueError as error:  # what torch says of a value out of range, or of parameters that it cannot take
        raise UserError(f'"optimizer": "{name}": {error}') from error
    if "fused" in taken:
        fuse_where_sound(optimizer)
    return optimizer


def _is_optimizer(candidate: Any) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, Optimizer) and candidate is not Optimizer


def own_optimizer(configure: Callable[..., Any], model: nn.Module, params: Any) -> Optimizer:
    """The optimizer that the task's `configure_optimizer` makes.

    Raises `UserError` for anything else than one optimizer, and for one over parameters that are not the network's:
    they would be in no checkpoint.
    """
    optimizer = configure(model, params)
    if not isinstance(optimizer, Optimizer):
        raise UserError(
            f"net.py: configure_optimizer is to return one optimizer, and it returned {form_of(optimizer)}; several "
            "that step as one are engine.training.Together(one, other)"
        )
    if any(isinstance(part, LBFGS) for part in getattr(optimizer, "optimizers", [optimizer])):
        raise UserError(f"net.py: configure_optimizer: {NO_LBFGS}")
    if not _steps_alone(optimizer):
        name = type(optimizer).__name__
        raise UserError(
            f"net.py: configure_optimizer: a {name} needs a closure in each step, which train.py does not give; a loop "
            "of your own can, docs/your-own-loop.md"
        )
    own = {id(parameter) for parameter in model.parameters()}
    strange = [p for group in optimizer.param_groups for p in group["params"] if id(p) not in own]
    if strange:
        shapes = ", ".join(str(tuple(parameter.shape)) for parameter in strange[:3])
        raise UserError(
            f"net.py: configure_optimizer trains {len(strange)} parameters that are not in Net (of shape {shapes}), so "
            "no checkpoint would hold them: make what they belong to, such as a loss, a part of Net"
        )
    return optimizer


def _steps_alone(optimizer: Optimizer) -> bool:
    """Whether a step can be taken without a closure."""
    try:
        inspect.signature(optimizer.step).bind()
    except TypeError:
        return False
    return True


def fuse_where_sound(optimizer: Optimizer) -> None:
    """Have the optimizer take its fused form if the gradients of its first step allow it, else torch's default form.

    The fused kernels of torch go through memory from end to end, whatever its strides, and want what they saw in the
    first step ever after; only the gradients themselves tell whether each parameter has one, dense and laid out alike.
    """

    def decide(optimizer: Optimizer, *_: Any) -> None:
        groups = optimizer.param_groups
        if DECIDED not in groups[0]:
            if all(_is_fusible(parameter) for group in groups for parameter in group["params"]):
                for group in groups:
                    group["fused"] = True
            groups[0][DECIDED] = True  # also for a run that goes on, be it from before its first step

    optimizer.register_step_pre_hook(decide)


def _is_fusible(parameter: Tensor) -> bool:
    gradient = parameter.grad
    return (
        gradient is not None
        and gradient.layout == parameter.layout == torch.strided
        and _strides(gradient) == _strides(parameter)
        and any(parameter.is_contiguous(memory_format=layout) for layout in WITHOUT_GAPS)
        and parameter.is_floating_point()
        and parameter.device.type in ("cpu", "cuda", "mps")
    )


def _strides(tensor: Tensor) -> list[int]:
    """The strides that matter: those of dimensions with more than one entry."""
    return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


def set_training_mode(model: nn.Module) -> None:
    """Training mode for all parts of the model but frozen batch norms, whose statistics stay as they are too.

    A norm is frozen where all of its own parameters are; one without any follows the data, as in plain PyTorch.
    """
    model.train()
    for module in model.modules():
        if hasattr(module, "running_mean"):
            own = list(module.parameters(recurse=False))
            if own and not any(parameter.requires_grad for parameter in own):
                module.eval()


def clip_gradients(model: nn.Module, largest_norm: float | None) -> None:
    """Scale the gradients down to `largest_norm`, all together, where they are longer and there is a limit."""
    if largest_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), largest_norm)


class Schedule:
    """The learning rate over time: a scheduler that is told of each step, or of each epoch. Without one, nothing is."""

    def __init__(self, scheduler: LRScheduler | None = None, unit: str = "step", follows_monitor: bool = False) -> None:
        if unit not in ("step", "epoch"):
            raise UserError(f'configure_scheduler: a scheduler counts "step" or "epoch", not "{unit}"')
        self.scheduler = scheduler
        self.unit = "epoch" if isinstance(scheduler, ReduceLROnPlateau) else unit
        self.follows_monitor = follows_monitor

    def after_step(self, taken: bool = True) -> None:
        """Tell a scheduler that counts steps of one more, if it was taken."""
        if taken and self.unit == "step":
            self._step()

    def after_epoch(self, score: float, mode: str) -> None:
        """Tell a scheduler that counts epochs of one more, and one that waits for a plateau of its score."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            if self.follows_monitor and self.scheduler.mode != mode:  # known now that there are scores
                self.scheduler = ReduceLROnPlateau(self.scheduler.optimizer, "max" if mode == "max" else "min")
            self.scheduler.step(score)
        elif self.unit == "epoch":
            self._step()

    def _step(self) -> None:
        if self.scheduler is None:
            return
        try:
            self.scheduler.step()
        except ValueError as error:  # it was made for fewer steps than there are
            raise UserError(
                f'net.py: configure_scheduler: {error}; total_steps is how many a scheduler by "step" will be told of, '
                'params.num_epochs how many one by "epoch"'
            ) from error

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return _state_of(self.scheduler) if self.scheduler else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        if self.scheduler:
            _load_scheduler(self.scheduler, state)


def _state_of(scheduler: LRScheduler) -> dict[str, Any]:
    """What a checkpoint keeps of a scheduler, and of those that it holds; its functions are made anew with it."""
    state = scheduler.state_dict().items()
    plain = {key: _state_of(value) if isinstance(value, LRScheduler) else value for key, value in state}
    return {key: value for key, value in plain.items() if not _is_function(value)}


def _load_scheduler(scheduler: LRScheduler, state: dict[str, Any]) -> None:
    """Give a scheduler what a checkpoint kept of it, and one that it holds for after a warm-up its own."""
    held = {key: value for key, value in scheduler.state_dict().items() if isinstance(value, LRScheduler)}
    for key, inner in held.items():
        _load_scheduler(inner, state[key])
    scheduler.load_state_dict({**state, **held})


def _is_function(value: Any) -> bool:
    return inspect.isroutine(value) or (
        isinstance(value, list | tuple) and bool(value) and all(map(_is_function, value))
    )


def own_schedule(configure: Callable[..., Any], optimizer: Optimizer, params: Any, total_steps: int) -> Schedule:
    """The schedule that the task's `configure_scheduler` makes, held to what it is to return."""
    made = configure(optimizer, params, total_steps)
    if not isinstance(made, tuple | list) or len(made) != 2 or not hasattr(made[0], "step"):
        raise UserError(
            f'net.py: configure_scheduler is to return (scheduler, "step" or "epoch"), and it returned {form_of(made)}'
        )
    schedule = Schedule(*made)
    try:
        schedule.state_dict()
    except AttributeError as error:  # `LambdaLR` over a function that is not written in Python
        raise UserError(f"net.py: the scheduler cannot be saved ({error}): have it call a function of yours") from error
    return schedule


def make_schedule(name: str, optimizer: Optimizer, warmup_steps: int, total_steps: int) -> Schedule:
    """The schedule of params.json over `total_steps` optimizer steps.

    `plateau` divides the learning rate by 10 when the monitored score, whichever way it is better, has not improved for
    10 epochs: torch's ReduceLROnPlateau as it comes.
    """
    if name == "plateau":
        if warmup_steps:
            raise UserError('"schedule": "plateau" knows no warm-up; leave out "warmup_epochs"')
        return Schedule(ReduceLROnPlateau(optimizer), "epoch", follows_monitor=True)
    if name == "constant" and warmup_steps == 0:
        return Schedule()
    return Schedule(LambdaLR(optimizer, lambda step: learning_rate_factor(name, step, warmup_steps, total_steps)))


def learning_rate_factor(name: str, step: int, warmup_steps: int, total_steps: int) -> float:
    """What the learning rate is multiplied by for step `step` (from 0) of `total_steps`.

    The first `warmup_steps` rise in a straight line to 1. Then `constant` stays, `linear` and `cosine` fall to 0.
    `onecycle` rises from 1/25 over 30 % of the steps (or the warm-up, if there is one) and falls to 0, both as half
    a cosine; as in Smith & Topin, "Super-Convergence", 2018, and with the figures of torch's OneCycleLR.
    """
    if name == "onecycle":
        warmup_steps = warmup_steps or max(1, round(0.3 * total_steps))
        if step < warmup_steps:
            return 1 - (1 - 1 / 25) * _half_cosine(step / warmup_steps)
    elif step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return {"constant": 1.0, "linear": 1 - progress}.get(name, _half_cosine(progress))


def _half_cosine(progress: float) -> float:
    """1 at progress 0, 0 at progress 1, flat at both ends."""
    return (1 + math.cos(math.pi * progress)) / 2
