"""Tensors on their way from the device to NumPy: a copy that nobody waits for before it is looked at."""

from typing import Any

import torch
from torch import Tensor

from engine.nested import map_tensors, tensors_in
from engine.training.metric_objects import in_full


class Transfer:
    """Its own copy of whatever tensors are nested in, in numbers that can be summed up.

    What a GPU has computed comes over into pinned memory when it is there, and the program goes on meanwhile. Apple's
    GPUs are waited for at once: they have no copy that tells when it has arrived.
    """

    def __init__(self, nested: Any) -> None:
        tensors = list(tensors_in(nested))
        self.nested = map_tensors(_copied, nested)  # objects of other kinds as they are: not all can be copied
        devices = {tensor.device for tensor in tensors if tensor.is_cuda}
        self._events = [torch.cuda.current_stream(device).record_event() for device in devices]

    @property
    def is_on_its_way(self) -> bool:
        """Whether to look at it now may mean to wait."""
        return bool(self._events)

    def arrays(self) -> Any:
        """The same nesting of NumPy arrays, once all have arrived."""
        for event in self._events:
            event.synchronize()
        return map_tensors(Tensor.numpy, self.nested)


def _copied(tensor: Tensor) -> Tensor:
    return in_full(tensor).to("cpu", non_blocking=tensor.is_cuda, copy=True)
