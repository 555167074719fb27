"""Optimizers that step as one, and how an optimizer, alone or among others, gets its state back from a checkpoint."""

import copy
from collections import defaultdict
from collections.abc import Callable
from operator import methodcaller
from typing import Any

import torch
from torch.optim import Optimizer

from engine.errors import UserError
from engine.nested import map_tensors, tensors_in


class Together(Optimizer):
    """Several optimizers that step as one, each for parameters of its own.

    >>> Together(Muon(matrices, lr=0.02), AdamW(others, lr=1e-3))

    A schedule moves the learning rate of all their groups, which follow one another; that of the first is logged.
    """

    def __init__(self, *optimizers: Optimizer) -> None:
        self.optimizers = optimizers
        super().__init__(self._groups(), {})

    def _groups(self) -> list[dict[str, Any]]:
        """Those of the optimizers, not copies of them."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """A step of each, after one call of the closure, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """That of each, in their order. Raises `UserError` if there are more groups than in the beginning."""
        if len(self.param_groups) != len(self._groups()):
            raise UserError("net.py: of optimizers that are Together, each is to have all of its groups from the start")
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Give each its own back."""
        for optimizer, state in zip(self.optimizers, state_dict["optimizers"], strict=True):
            load_optimizer(optimizer, state)
        self.param_groups = self._groups()  # new ones, by now


def load_optimizer(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Give an optimizer its state back, each value as it was.

    PyTorch's own way makes all numbers of the parameter's type, counts and finer ones too; it fails at arrays, and
    garbles texts. What the optimizer's class or a hook does instead is left to them.
    """
    if _loads_by_itself(optimizer):
        optimizer.load_state_dict(saved)
        return
    optimizer.load_state_dict({**saved, "state": {}})
    owners = {
        key: (parameter, bool(group.get("fused") or group.get("capturable")))
        for before, group in zip(saved["param_groups"], optimizer.param_groups, strict=True)
        for key, parameter in zip(before["params"], group["params"], strict=True)
    }
    state: dict[Any, Any] = defaultdict(dict)
    for key, kept in saved["state"].items():
        parameter, counts_on_device = owners.get(key, (None, False))
        if parameter is None:
            state[key] = kept  # of no parameter, but of all
            continue
        state[parameter] = map_tensors(methodcaller("to", parameter.device), kept)
        if "step" in kept and not counts_on_device:
            state[parameter]["step"] = kept["step"]
    optimizer.__setstate__({"state": state, "param_groups": optimizer.param_groups})


def try_to_load(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Raise `UserError` for an optimizer whose own way to load its state fails: no run with it could go on.

    Tried on a copy, of all but its tensors.
    """
    if not _loads_by_itself(optimizer):
        return
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    tensors = {id(tensor): tensor for tensor in [*parameters, *tensors_in([*optimizer.state.values()])]}
    copied = object.__new__(type(optimizer))
    try:
        copied.__dict__.update(copy.deepcopy(vars(optimizer), tensors))
        copied.load_state_dict(saved)
    except Exception as error:  # of the task's own code it can be anything
        raise UserError(
            f"net.py: {type(optimizer).__name__} does not load what its state_dict() gives, so that no run could go on "
            f"with it ({type(error).__name__}: {error})"
        ) from error


def _loads_by_itself(optimizer: Optimizer) -> bool:
    if type(optimizer).load_state_dict is not Optimizer.load_state_dict:
        return True
    return bool(optimizer._optimizer_load_state_dict_pre_hooks or optimizer._optimizer_load_state_dict_post_hooks)
