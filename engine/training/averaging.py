"""The running average of a network's weights: a copy that follows it, step by step."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import UserError
from engine.training.device import refuse_lazy

Pair = tuple[Tensor, Tensor]  # the average's own, and the network's
STATISTICS = ("running_mean", "running_var")  # buffers that are averages already, and belong to the weights


class Average:
    """A copy of a network whose weights are the exponential moving average of those it follows.

    After n updates the decay is at most (1 + n) / (10 + n), as in TensorFlow: at 0.999, the first weights, which are
    random, would count for thousands of steps. Statistics of norms are averaged too. Everything else is what it is in
    the network: of counters, masks, the vectors of a spectral norm, there is no mean.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        refuse_lazy(model, "ema_decay")
        self.module = copy_of(model)
        self.decay = decay
        self.updates = 0
        self._have_means = [_has_mean(parameter) for parameter in model.parameters()]

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Follow the network by one step."""
        means: list[Pair] = []
        copies: list[Pair] = []
        parameters = zip(self.module.parameters(), model.parameters(), strict=True)
        for pair, has_mean in zip(parameters, self._have_means, strict=True):
            (means if has_mean else copies).append(pair)
        for own, module in zip(self.module.modules(), model.modules(), strict=True):
            for name, buffer in module.named_buffers(recurse=False):
                (means if name in STATISTICS else copies).append((_fitting(own, name, buffer), buffer))
            if type(module).get_extra_state is not nn.Module.get_extra_state:
                own.set_extra_state(copy.deepcopy(module.get_extra_state()))
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.updates else 0.0
        if means:
            averages, weights = zip(*means, strict=True)
            torch._foreach_lerp_(averages, weights, 1 - decay)
        if copies:
            copied, originals = zip(*copies, strict=True)
            torch._foreach_copy_(copied, originals)
        self.updates += 1

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint keeps besides the weights."""
        return {"n_averaged": self.updates}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from what a checkpoint kept."""
        self.updates = state["n_averaged"]


def average_of(model: nn.Module, decay: float | None) -> Average | None:
    """The average of the model's weights over the steps to come; None without decay."""
    return None if decay is None else Average(model, decay)


def copy_of(model: nn.Module) -> nn.Module:
    """A deep copy, also of a model that keeps tensors which it computes anew in each pass (`weight_norm` of old)."""
    computed: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                computed[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(model, computed)
    except Exception as error:  # whatever the network holds: generators, open files
        reason = str(error).partition(". ")[0]
        raise UserError(f'"ema_decay": the network cannot be copied, which an average needs: {reason}') from error


def _has_mean(parameter: Tensor) -> bool:
    """Whether there is a mean of it: a mask with -inf would become NaN."""
    return (parameter.is_floating_point() or parameter.is_complex()) and bool(parameter.isfinite().all())


def _fitting(module: nn.Module, name: str, buffer: Tensor) -> Tensor:
    """The module's own buffer of that name; a copy of the network's, where that has taken another form."""
    own = getattr(module, name)
    if own is None or own.shape != buffer.shape or own.dtype != buffer.dtype:
        own = buffer.clone()
        setattr(module, name, own)
    return own
