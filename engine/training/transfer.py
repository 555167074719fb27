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
    >>> transfer.add((loss, outputs))
    >>> transfer.send()
    >>> [(loss, outputs)] = transfer.arrays()

    A tensor is taken as it is when its part is added, whatever becomes of it. What a GPU has computed comes over into
    pinned memory when it is there, and the program goes on meanwhile. Apple's GPUs are waited for at once: they have no
    copy that tells when it has arrived.
    """

    def __init__(self) -> None:
        self._parts: list[Any] = []  # with arrays in place of tensors, and places in place of those on a GPU
        self._kept: dict[torch.device, list[Tensor]] = {}  # there, as bytes
        self._ends: dict[torch.device, int] = {}
        self._sent: dict[torch.device, Tensor] = {}
        self._events: list[torch.cuda.Event] = []
        self._bytes = 0
        self._begun = time.perf_counter()

    def add(self, part: Any) -> None:
        """Take a part in; objects of other kinds as they are, as not all can be copied."""
        self._parts.append(map_tensors(self._taken, part, (Tensor, np.ndarray)))

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

    def arrays(self) -> list[Any]:
        """The parts with arrays of NumPy for tensors, once all have arrived."""
        for event in self._events:
            event.synchronize()
        came = {device: sent.numpy() for device, sent in self._sent.items()}
        return map_tensors(lambda place: _array_at(place, came), self._parts, Place) if came else self._parts

    def _taken(self, tensor: Any) -> Any:
        if isinstance(tensor, np.ndarray):
            return tensor.copy(order="K")
        tensor = in_full(tensor)
        self._bytes += tensor.nbytes
        if not tensor.is_cuda:
            return tensor.cpu().numpy().copy(order="K")
        device, start = tensor.device, self._ends.get(tensor.device, 0)
        self._ends[device] = start + tensor.nbytes
        self._kept.setdefault(device, []).append(tensor.clone().reshape(-1).view(torch.uint8))
        return Place(device, start, self._ends[device], tensor.dtype, tuple(tensor.shape))


def _array_at(place: Place, came: dict[torch.device, np.ndarray]) -> np.ndarray:
    """A copy, as numbers of eight bytes may lie at any byte."""
    return came[place.device][place.start : place.end].copy().view(_in_numpy(place.dtype)).reshape(place.shape)


@functools.cache
def _in_numpy(dtype: torch.dtype) -> np.dtype[Any]:
    return torch.empty(0, dtype=dtype).numpy().dtype
