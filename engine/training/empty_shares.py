"""Batches of which a process has no rows, where batch norm over all processes waits for it all the same."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from engine.data import EMPTY, without_rows
from engine.errors import UserError
from engine.nested import map_tensors
from engine.training.metrics import Losses
from engine.training.processes import Processes

Forward = Callable[[Any], tuple[Losses | None, Any, Any]]  # from a batch to its losses, outputs and labels
WAYS_OUT = (
    "choose a batch_size that leaves no short batch, leave that out (`drop_last=True` in data_loader.py), or set "
    '"sync_batchnorm": false'
)


class EmptyShares:
    """Goes through the network with a batch of no rows, which batch norm leaves out, while the others do with theirs.

    Nothing else comes of it: no gradients, and of the buffers only those of batch norm change.
    """

    def __init__(self, model: nn.Module, processes: Processes) -> None:
        self.model, self.processes = model, processes
        modules = model.modules() if processes.count > 1 else ()
        self._norms = [module for module in modules if isinstance(module, nn.SyncBatchNorm)]
        self._batch: Any = None  # of no rows
        self._gone_through = 0  # in this step

    def look(self, batch: Any) -> None:
        """See of what form batches are, all processes by the same one, as this one may have no rows of it."""
        if self._norms:
            seen = self.processes.gather(None if batch is EMPTY else _without_rows(batch))
            self._batch = self.processes.from_first(lambda: next(other for other in seen if other is not None))

    def go_through(self, forward: Forward) -> None:
        """Go forward and backward with no rows, if the others wait for that."""
        if not self._norms:
            return
        try:
            if isinstance(self._batch, UserError):
                raise self._batch
            with self._only_norms_change():
                losses, *_ = forward(self._batch)
                assert losses is not None
                trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
                torch.autograd.grad(losses["loss"].value, trained, allow_unused=True)
        except Exception as error:
            raise self._refusal(f"goes through the network without, which fails ({error})") from error
        self._gone_through += 1

    def check(self) -> None:
        """Raise `UserError` if the others wait for this process, as it has left a batch of the step out."""
        if self._norms and self._gone_through < self.processes.share.missed:
            raise self._refusal("is to go through the network without, which this loop does not see to")
        self._gone_through = 0

    def _refusal(self, what: str) -> UserError:
        return UserError(
            f"a batch has no rows for one of {self.processes.count} processes, which for batch norm over all of them "
            f"{what}: {WAYS_OUT}"
        )

    @contextlib.contextmanager
    def _only_norms_change(self) -> Iterator[None]:
        """Put back all other buffers. What norms tell each other is in full precision, as of those that have rows."""
        own = {id(buffer) for norm in self._norms for buffer in norm.buffers()}
        others = [(buffer, buffer.clone()) for buffer in self.model.buffers() if id(buffer) not in own]
        hooks = [norm.register_forward_pre_hook(_in_full) for norm in self._norms]
        yield
        for hook in hooks:
            hook.remove()
        for buffer, before in others:
            buffer.copy_(before)


def _in_full(norm: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(tensor.float() if tensor.element_size() < 4 else tensor for tensor in inputs)


def _without_rows(batch: Any) -> Any:
    """A batch of no rows, on the CPU; where there can be none like this one, the error that says why."""
    try:
        return map_tensors(lambda tensor: tensor.cpu().clone(), without_rows(batch))
    except UserError as error:
        return error
