"""The gradients of a step: over its batches, and over the processes that share them."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from engine.data import EMPTY
from engine.errors import UserError
from engine.training.buckets import Buckets, dense_gradient
from engine.training.empty_shares import EmptyShares, Forward
from engine.training.metrics import Losses
from engine.training.processes import Processes
from engine.training.replicas import Buffers


class Gradients:
    """The gradients of a step: of one batch, or of several that count like one as large as all of them together.

    Of several processes each goes backward from the total over its share; the totals are added up, and then divided by
    all that was counted. So shares may be of any size, or empty.
    """

    def __init__(self, model: nn.Module, accumulate: int = 1, processes: Processes | None = None) -> None:
        self.model = model
        self.accumulate = accumulate
        self.processes = processes or Processes()
        self.are_added_up = accumulate > 1 or self.processes.count > 1
        self.weight: Any = 0
        self._buffers = Buffers(
            model if self.processes.count > 1 else nn.Identity()
        )  # alone, there are none to keep alike
        self._buckets = Buckets(model, self.processes)
        self._empty_shares = EmptyShares(model, self.processes)
        self._is_last = False  # of the step, the batch that is under way; where nobody knows, it is not

    def steps(self, batches: Iterable[Any], forward: Forward) -> Iterator[Iterable[Any]]:
        """The batches of each step, so many at a time; the last step may have fewer.

        `forward` is how a batch goes through the network, for the sake of one of no rows.
        """
        rest = self._with_empty_ones(batches, forward)
        for first in rest:
            yield self._step(itertools.chain([first], itertools.islice(rest, self.accumulate - 1)))
        if self.processes.count > 1:  # none is to wait for a step that the others do not take
            self.processes.agree(has_ended=True, more=[0.0] * len(self._news(False)))
        self._buckets.close()

    def _with_empty_ones(self, batches: Iterable[Any], forward: Forward) -> Iterator[Any]:
        """All batches; where the other processes wait for it, the network has then seen those of no rows."""
        for number, batch in enumerate(batches):
            if number == 0:
                self._empty_shares.look(batch)
            if batch is EMPTY:
                self._empty_shares.go_through(forward)
            yield batch

    def _step(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches of a step; if it has as many as it may, one knows which is the last."""
        for number, batch in enumerate(batches, start=1):
            self._is_last = number == self.accumulate
            yield batch
        self._is_last = False

    def share(self, losses: Losses | None) -> Tensor:
        """What a batch adds to the loss of its step, to go backward from: its mean; its total when others are added."""
        if losses is None:
            raise UserError("there is no loss to train on: the batches hold no labels, or `step` returns None for it")
        mean, weight = losses["loss"]
        if not self.are_added_up:
            return mean
        self.weight = self.weight + weight
        if self._is_last:
            self._buckets.listen()
        return mean * weight

    def average(self, not_finite_at: int | None = None) -> None:
        """Make them those of the mean over all examples of the step, where several batches or processes have added up.

        `not_finite_at` is the batch whose loss was no number, if there is one, of which the other processes are told.
        """
        if self.processes.count > 1:
            self._add_up(not_finite_at is not None)
        if self.are_added_up:
            scale = 1 / (self.weight + (self.weight == 0))
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(scale)
            self.weight = 0

    def _add_up(self, not_finite: bool) -> None:
        """Make gradients and weight the sums over all processes, and the buffers the same in all of them.

        What no process has used keeps no gradient. Running statistics become their mean over all rows, and whatever
        else has changed becomes what the first process has.
        """
        processes, buckets = self.processes, self._buckets
        self._empty_shares.check()
        changed = buckets.send_rest()
        is_absent, again, checksums, *news = processes.agree(not_finite=not_finite, more=self._news(changed))
        if checksums != processes.count * buckets.checksum:
            raise UserError("other parameters are frozen in one process than in another: it is to be so in all of them")
        parameters = list(self.model.parameters())
        used = [parameter for parameter, users in zip(parameters, news, strict=False) if users]
        buckets.receive(set(used), again > 0)
        others = [parameter for parameter in used if parameter not in buckets]
        gradients = [dense_gradient(parameter) for parameter in others]
        copies = self._buffers.to_copy(news[len(parameters) :], is_absent > 0)
        statistics = self._buffers.statistics
        changes = [(buffer - before) * processes.rows for buffer, before in statistics]
        processes.add_up([weight := _on_device(self.weight, used[0].device), *gradients, *changes])
        for parameter, gradient in zip(others, gradients, strict=True):
            parameter.grad = gradient
        for (buffer, before), change in zip(statistics, changes, strict=True):
            buffer.copy_(before + change / processes.examples)  # one that has not changed stays what it is, to the bit
        processes.copy_from_first(copies)
        self._buffers.look()
        self.weight = weight

    def _news(self, has_changed: bool) -> list[float]:
        """What the others are to know before anything is added up: where there are gradients here, and new buffers."""
        facts = [float(self.processes.share.missed > 0), float(has_changed), self._buckets.checksum]
        return facts + [float(p.grad is not None) for p in self.model.parameters()] + self._buffers.changes()


def _on_device(weight: Any, device: torch.device) -> Tensor:
    """A weight as a tensor of its own on the device, which is not waited for."""
    if isinstance(weight, Tensor):
        return weight.to(device, torch.float32, copy=True)
    return torch.full((), float(weight), device=device)
