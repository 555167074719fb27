"""Tensors on their way from the device to NumPy: one copy for many batches, which nobody waits for."""

import functools
import time
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.nested import map_tensors
from engine.training.metric_objects import in_full

# What goes over together: enough to spare a small network most of the work, but nothing large, and nothing old
MOST_PARTS = 32
MOST_BYTES = 2**20
MOST_SECONDS = 0.05


class Place(NamedTuple):
    """Where the numbers of a tensor lie among the bytes that came over from its device."""

    device: torch.device
    start: int
    end: int
    dtype: torch.dtype
    shape: tuple[int, ...]


class Transfer:
    """Parts, in which tensors are nested, on their way to memory, as numbers that can be summed up.

    >>> transfer = Transfer()
    >>> transfer.add((loss, outputs), about=3)
    >>> transfer.send()
    >>> [(3, (loss, outputs))] = transfer.arrays()

    A tensor is taken as it is when its part is added, whatever becomes of it. What a GPU has computed comes over into
    pinned memory when it is there, and the program goes on meanwhile. Apple's GPUs are waited for at once: they have no
    copy that tells when it has arrived.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[Any, Any]] = []  # with arrays in place of tensors, and places in place of those on GPUs
        self._bytes = 0
        self._fresh: dict[torch.device, list[Tensor]] = {}  # of the latest part
        self._kept: dict[torch.device, list[Tensor]] = {}  # copies of those of each part, one behind the other
        self._ends: dict[torch.device, int] = {}
        self._sent: dict[torch.device, Tensor] = {}
        self._events: list[torch.cuda.Event] = []
        self._begun = time.perf_counter()

    def add(self, part: Any, about: Any = None) -> None:
        """Take a part in, with what is to be known about it; objects of other kinds as they are: not all can be copied.

        The tensors of a part that are on a GPU are copied there by one operation.
        """
        self._parts.append((about, map_tensors(self._taken, part, (Tensor, np.ndarray))))
        for device, tensors in self._fresh.items():
            self._kept.setdefault(device, []).append(torch.cat(tensors))
        self._fresh.clear()

    @property
    def is_full(self) -> bool:
        """Whether it is time to send what there is."""
        is_late = time.perf_counter() - self._begun > MOST_SECONDS
        return is_late or len(self._parts) >= MOST_PARTS or self._bytes > MOST_BYTES

    def send(self) -> None:
        """Begin to copy what has been taken in; nothing can be added after."""
        for device, tensors in self._kept.items():
            self._sent[device] = torch.cat(tensors).to("cpu", non_blocking=True)
            self._events.append(torch.cuda.current_stream(device).record_event())
        self._kept.clear()

    @property
    def is_on_its_way(self) -> bool:
        """Whether to look at it now may mean to wait."""
        return bool(self._events)

    def arrays(self) -> list[tuple[Any, Any]]:
        """The parts, with arrays of NumPy for tensors, once all have arrived; before each what is known about it."""
        for event in self._events:
            event.synchronize()
        came = {device: sent.numpy() for device, sent in self._sent.items()}
        if not came:
            return self._parts
        return [(about, map_tensors(lambda place: _array_at(place, came), part, Place)) for about, part in self._parts]

    def _taken(self, tensor: Any) -> Any:
        self._bytes += tensor.nbytes
        if isinstance(tensor, np.ndarray):
            return tensor.copy(order="K")
        tensor = in_full(tensor)
        if not tensor.is_cuda:
            return tensor.cpu().numpy().copy(order="K")
        device, start = tensor.device, self._ends.get(tensor.device, 0)
        self._ends[device] = start + tensor.nbytes
        self._fresh.setdefault(device, []).append(tensor.reshape(-1).contiguous().view(torch.uint8))
        return Place(device, start, self._ends[device], tensor.dtype, tuple(tensor.shape))


def _array_at(place: Place, came: dict[torch.device, np.ndarray]) -> np.ndarray:
    """A copy, as numbers of eight bytes may lie at any byte."""
    return came[place.device][place.start : place.end].copy().view(_in_numpy(place.dtype)).reshape(place.shape)


@functools.cache
def _in_numpy(dtype: torch.dtype) -> np.dtype[Any]:
    return torch.empty(0, dtype=dtype).numpy().dtype
