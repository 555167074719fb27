"""The gradients of a step: over its batches, and over the processes that share them."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import UserError
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
        self._was_absent = False  # from a batch of this step

    def steps(self, batches: Iterable[Any]) -> Iterator[Iterable[Any]]:
        """The batches of each step, so many at a time; the last step may have fewer."""
        rest = iter(batches)
        for first in rest:
            yield itertools.chain([first], itertools.islice(rest, self.accumulate - 1))
        if self.processes.count > 1:  # none is to wait for a step that the others do not take
            self.processes.agree(has_ended=True, more=[0.0] * len(self._news()))

    def share(self, losses: Losses | None) -> Tensor:
        """What a batch adds to the loss of its step, to go backward from: its mean; its total when others are added."""
        if losses is None:
            raise UserError("there is no loss to train on: the batches hold no labels, or `step` returns None for it")
        mean, weight = losses["loss"]
        if not self.are_added_up:
            return mean
        self.weight = self.weight + weight
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
        processes = self.processes
        is_absent, *news = processes.agree(not_finite=not_finite, more=self._news())
        parameters = list(self.model.parameters())
        gradients = [_dense_gradient(p) for p, users in zip(parameters, news, strict=False) if users]
        copies = self._buffers.to_copy(news[len(parameters) :], is_absent > 0)
        statistics = self._buffers.statistics
        changes = [(buffer - before) * processes.rows for buffer, before in statistics]
        weight = torch.as_tensor(self.weight, dtype=torch.float32, device=gradients[0].device).clone()
        processes.add_up([weight, *gradients, *changes])
        for (buffer, before), change in zip(statistics, changes, strict=True):
            buffer.copy_(before + change / processes.examples)  # one that has not changed stays what it is, to the bit
        processes.copy_from_first(copies)
        self._buffers.look()
        self.weight = weight

    def _news(self) -> list[float]:
        """What the others are to know before anything is added up: where there are gradients here, and new buffers."""
        is_absent = [float(self.processes.share.missed > 0)]
        return is_absent + [float(p.grad is not None) for p in self.model.parameters()] + self._buffers.changes()


def _dense_gradient(parameter: Tensor) -> Tensor:
    """The gradient of a parameter, zero where this process has not used it."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    if parameter.grad.layout != torch.strided:
        raise UserError("several processes cannot add up sparse gradients: leave out `sparse=True`, or train in one")
    return parameter.grad
