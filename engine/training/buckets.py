"""Gradients that go to the other processes while backward is still at work, in buckets."""

import zlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import UserError
from engine.training.processes import Processes

BUCKET_BYTES = 25 * 2**20  # as in DistributedDataParallel: few messages, and the first of them early


class Bucket:
    """Parameters whose gradients are added up over the processes by one message."""

    def __init__(self) -> None:
        self.parameters: list[nn.Parameter] = []
        self.awaited: set[nn.Parameter] = set()  # whose gradients are yet to come
        self._sent: list[Tensor] = []
        self._finish: Callable[[bool], None] = _nothing

    def send(self, processes: Processes) -> None:
        """Begin to add up; where this process has no gradient, it takes part with zeros."""
        self._sent = [dense_gradient(parameter) for parameter in self.parameters]
        self._versions = [gradient._version for gradient in self._sent]
        self._finish = processes.adding_up(self._sent)

    @property
    def is_outdated(self) -> bool:
        """Whether a gradient is no longer what was sent: backward was called again, or the loop has changed it."""
        gradients = zip(self.parameters, self._sent, self._versions, strict=True)
        return any((p.grad is not None and p.grad is not sent) or sent._version != v for p, sent, v in gradients)

    def send_again(self, processes: Processes) -> None:
        """Begin anew, once what is under way in vain has come."""
        self._finish(False)
        self.send(processes)

    def receive(self, used: set[nn.Parameter]) -> None:
        """Make the gradients of those parameters that any process has used their sums."""
        self._finish(True)
        for parameter, total in zip(self.parameters, self._sent, strict=True):
            if parameter in used:
                parameter.grad = total
        self._sent, self._finish = [], _nothing  # which would keep the memory of both until the next step


class Buckets:
    """The gradients of each step on their way to the other processes.

    A bucket leaves once its gradients are there and the buckets before it have left. So all processes send the same
    ones in the same order, from the last parameter to the first, as backward comes by them, whatever each has used; and
    how early they leave changes nothing in what they add up to.
    """

    def __init__(self, model: nn.Module, processes: Processes) -> None:
        self.processes = processes
        self.checksum = 0.0  # of which parameters are in them
        self._model = model if processes.count > 1 and can_leave_early(model) else nn.Identity()  # which has none
        self._buckets: list[Bucket] = []
        self._bucket_of: dict[nn.Parameter, Bucket] = {}
        self._hooks: list[Any] = []
        self._left = 0  # of the buckets, in this step
        self._used: set[nn.Parameter] | None = None  # by this process, as far as is known
        self._is_listening, self._is_worth_it = False, True

    def __contains__(self, parameter: nn.Parameter) -> bool:
        return parameter in self._bucket_of

    def listen(self) -> None:
        """Have the backward pass that comes now, the last one of the step, send each bucket that it fills."""
        self._fill()
        self._is_listening = self._is_worth_it
        for bucket in self._buckets:
            bucket.awaited = set(bucket.parameters) & (self._bucket_of.keys() if self._used is None else self._used)

    def send_rest(self) -> bool:
        """Send what has not left yet; returns whether some of the rest has changed since, so that it is in vain."""
        if not self._left:
            self._fill()
        for bucket in self._buckets[self._left :]:
            bucket.send(self.processes)
        if self._is_listening:
            self._used = (self._used or set()) | {p for p in self._bucket_of if p.grad is not None}
        self._is_listening = False
        return any(bucket.is_outdated for bucket in self._buckets)

    def receive(self, used: set[nn.Parameter], again: bool) -> None:
        """Make the gradients of those parameters that any process has used their sums, sent `again` if need be."""
        if again:
            self._is_worth_it = False
            for bucket in self._buckets:
                bucket.send_again(self.processes)
        for bucket in self._buckets:
            bucket.receive(used)
        self._left = 0

    def close(self) -> None:
        """Leave the parameters without hooks."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _fill(self) -> None:
        """Put the parameters that are not frozen into buckets, where they are others than before."""
        parameters = [parameter for parameter in self._model.parameters() if parameter.requires_grad][::-1]
        if list(map(id, parameters)) == list(map(id, self._bucket_of)):
            return
        self.close()
        self._buckets, self._bucket_of, self._used, size = [], {}, None, BUCKET_BYTES
        for parameter in parameters:
            if size >= BUCKET_BYTES:
                self._buckets.append(Bucket())
                size = 0
            self._buckets[-1].parameters.append(parameter)
            self._bucket_of[parameter] = self._buckets[-1]
            size += parameter.nbytes
        self._hooks = [parameter.register_post_accumulate_grad_hook(self._arrived) for parameter in parameters]
        self.checksum = float(zlib.crc32(bytes(p in self._bucket_of for p in self._model.parameters())))

    def _arrived(self, parameter: nn.Parameter) -> None:
        """A gradient is there: its bucket leaves if that is full, and so do those that have waited for it."""
        if not self._is_listening:
            return
        self._bucket_of[parameter].awaited.discard(parameter)
        while self._left < len(self._buckets) and not self._buckets[self._left].awaited:
            self._buckets[self._left].send(self.processes)
            self._left += 1


def _nothing(are_wanted: bool) -> None:
    """There are no sums to wait for."""


def can_leave_early(model: nn.Module) -> bool:
    """Whether gradients go off while backward goes on: on GPUs, whose messages are not the processes' only ones.

    Not where batch norm talks in backward, too: the messages of both would have to come in one order everywhere.
    """
    on_gpu = any(parameter.is_cuda for parameter in model.parameters())
    return on_gpu and not any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())


def dense_gradient(parameter: nn.Parameter) -> Tensor:
    """The gradient of a parameter, zero where this process has not used it."""
    gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    if gradient.layout != torch.strided:
        raise UserError("several processes cannot add up sparse gradients: leave out `sparse=True`, or train in one")
    return gradient
