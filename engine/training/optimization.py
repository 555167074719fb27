"""From a loss to a step: the optimizer by name, the gradients before it, the learning rate over time."""

import inspect
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from engine.errors import UserError, did_you_mean
from engine.training.metrics import Losses


def make_optimizer(name: str, model: nn.Module, learning_rate: float, **arguments: Any) -> Optimizer:
    """The optimizer of `torch.optim` called `name` over the parameters that are to be trained, fused where it can be.

    Arguments that are None are left to the optimizer's own defaults. Raises `UserError` for an unknown name or one
    that does not take an argument.
    """
    kinds = {kind: cls for kind, cls in vars(torch.optim).items() if _is_optimizer(cls)}
    if name not in kinds:
        raise UserError(f'"optimizer": there is no "{name}" in torch.optim{did_you_mean(name, kinds)}')
    if name == "LBFGS":
        raise UserError('"optimizer": "LBFGS" computes the loss many times in each step, which train.py does not')
    taken = inspect.signature(kinds[name]).parameters
    given = {key: value for key, value in arguments.items() if value is not None}
    for key in given:
        if key not in taken:
            raise UserError(f'"{key}" is no argument of the optimizer {name}; leave it out of params.json')
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise UserError("the network has no parameter to train; all are frozen")
    if "fused" in taken and all(p.is_floating_point() and p.device.type in ("cpu", "cuda", "mps") for p in trained):
        given["fused"] = True
    return kinds[name](trained, lr=learning_rate, **given)


def _is_optimizer(candidate: Any) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, Optimizer) and candidate is not Optimizer


def set_training_mode(model: nn.Module) -> None:
    """Training mode for all parts of the model but the frozen ones: their batch statistics stay as they are too."""
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


class Gradients:
    """The gradients of a step: of one batch, or of several that count like one as large as all of them together."""

    def __init__(self, model: nn.Module, accumulate: int = 1) -> None:
        self.model = model
        self.accumulate = accumulate
        self.weight: Any = 0

    def steps(self, batches: Iterable[Any]) -> Iterator[Iterable[Any]]:
        """The batches of each step, so many at a time; the last step may have fewer."""
        rest = iter(batches)
        for first in rest:
            yield itertools.chain([first], itertools.islice(rest, self.accumulate - 1))

    def share(self, losses: Losses | None) -> Tensor:
        """What a batch adds to the loss of its step, to go backward from: its mean; its total when others are added."""
        if losses is None:
            raise UserError("there is no loss to train on: the batches hold no labels, or `step` returns None for it")
        mean, weight = losses["loss"]
        if self.accumulate == 1:
            return mean
        self.weight = self.weight + weight
        return mean * weight

    def average(self) -> None:
        """Make them those of the mean over all examples of the step, where several batches were added up."""
        if self.accumulate > 1:
            scale = 1 / (self.weight + (self.weight == 0))
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(scale)
            self.weight = 0


def clip_gradients(model: nn.Module, largest_norm: float | None) -> None:
    """Scale the gradients down to `largest_norm`, all together, where they are longer and there is a limit."""
    if largest_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), largest_norm)


class Schedule:
    """The learning rate over time: a scheduler that is told of each step, or of each epoch. Without one, nothing is."""

    def __init__(self, scheduler: LRScheduler | None = None, unit: str = "step") -> None:
        if unit not in ("step", "epoch"):
            raise UserError(f'configure_scheduler: a scheduler counts "step" or "epoch", not "{unit}"')
        self.scheduler = scheduler
        self.unit = "epoch" if isinstance(scheduler, ReduceLROnPlateau) else unit

    def after_step(self) -> None:
        """Tell a scheduler that counts steps of one more."""
        if self.scheduler and self.unit == "step":
            self.scheduler.step()

    def after_epoch(self, score: float) -> None:
        """Tell a scheduler that counts epochs of one more, and one that waits for a plateau of its score."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(score)
        elif self.scheduler and self.unit == "epoch":
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return self.scheduler.state_dict() if self.scheduler else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        if self.scheduler:
            self.scheduler.load_state_dict(state)


def make_schedule(name: str, optimizer: Optimizer, warmup_steps: int, total_steps: int, mode: str = "min") -> Schedule:
    """The schedule of params.json over `total_steps` optimizer steps.

    `plateau` divides the learning rate by 10 when the monitored score, better high or low as `mode` says, has not
    improved for 10 epochs: torch's ReduceLROnPlateau as it comes.
    """
    if name == "plateau":
        if warmup_steps:
            raise UserError('"schedule": "plateau" knows no warm-up; leave out "warmup_epochs"')
        return Schedule(ReduceLROnPlateau(optimizer, "max" if mode == "max" else "min"), "epoch")
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
