"""Tensors on their way from the device to NumPy: a copy that nobody waits for before it is looked at."""

from typing import Any

import torch
from torch import Tensor

from engine.nested import map_tensors
from engine.training.metric_objects import in_full


class Transfer:
    """Whatever tensors are nested in, on its way to memory, in numbers that can be summed up.

    What a GPU has computed comes over into pinned memory when it is there, and the program goes on meanwhile. Apple's
    GPUs are waited for at once: they have no copy that tells when it has arrived. What is in memory already is taken as
    it is, and has to be looked at before it changes.
    """

    def __init__(self, nested: Any) -> None:
        self._devices: set[torch.device] = set()
        self.nested = map_tensors(self._sent, nested)  # objects of other kinds as they are: not all can be copied
        self._events = [torch.cuda.current_stream(device).record_event() for device in self._devices]

    @property
    def is_on_its_way(self) -> bool:
        """Whether to look at it now may mean to wait."""
        return bool(self._events)

    def arrays(self) -> Any:
        """The same nesting of NumPy arrays, once all have arrived; those of what was in memory share it."""
        for event in self._events:
            event.synchronize()
        return map_tensors(Tensor.numpy, self.nested)

    def _sent(self, tensor: Tensor) -> Tensor:
        if tensor.is_cuda:
            self._devices.add(tensor.device)
        return in_full(tensor).to("cpu", non_blocking=tensor.is_cuda)
