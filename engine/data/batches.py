"""Batches of examples that are resident: in memory, on the device, or memory-mapped from a cache file."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.errors import UserError, form_of


def to_device(tensor: Tensor, device: torch.device, layout: torch.memory_format = torch.preserve_format) -> Tensor:
    """The tensor on a device; on its way to a GPU it is pinned, as from ordinary memory the CPU waits for the copy.

    The copy stands in line behind the step before, and meanwhile the CPU goes on to the next batch.
    """
    if tensor.device == device and layout == torch.preserve_format:
        return tensor
    comes_from_memory = tensor.device.type == "cpu" and tensor.layout == torch.strided
    if device.type == "cuda" and comes_from_memory and not tensor.is_pinned():
        tensor = torch.empty_like(tensor, pin_memory=True).copy_(tensor)
    return tensor.to(device, non_blocking=True, memory_format=layout)


class TensorBatches:
    """Batches cut from whole tensors, each by one index operation.

    >>> batches = TensorBatches(images, labels, batch_size=32, shuffle=True)
    >>> for inputs, targets in batches: ...

    Every array holds one example per row, as a tensor or as a NumPy array (a memory-mapped one stays on disk).
    `rows` picks the examples of this split out of them. `transform` takes the inputs of a batch, already on the
    device, and returns what the network sees: normalisation, augmentation. `names` name the examples, in row order.
    """

    def __init__(
        self,
        *arrays: Tensor | np.ndarray,
        batch_size: int,
        shuffle: bool = False,
        rows: Sequence[int] | np.ndarray | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.tensors = tuple(map(_as_tensor, arrays))
        lengths = [len(tensor) for tensor in self.tensors]
        if len(set(lengths)) > 1:
            raise UserError(f"TensorBatches: the arrays differ in their number of rows: {', '.join(map(str, lengths))}")
        self.rows = torch.arange(lengths[0]) if rows is None else torch.as_tensor(np.asarray(rows))
        self.members = self.rows  # of the split in the data, wherever these are
        self.pool = lengths[0]  # rows of the data
        if names is not None and len(names) != len(self.rows):
            raise UserError(f"TensorBatches: there are {len(names)} names for {len(self.rows)} rows")
        self.device = self.tensors[0].device
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.transform = transform
        self.names = names

    def to(self, device: torch.device) -> "TensorBatches":
        """Hand out batches on `device` from now on; a GPU takes in the whole split if that fills at most half of it."""
        self.device = device
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if sum(tensor[:1].nbytes for tensor in self.tensors) * len(self.rows) <= free // 2:
                self.tensors = tuple(tensor[self.rows].to(device) for tensor in self.tensors)
                self.rows = torch.arange(len(self.rows))
        return self

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        return (self.batch(rows) for rows in self.order())

    def order(self) -> tuple[Tensor, ...]:
        """The rows of each batch of one pass; shuffled by PyTorch's global generator."""
        rows = self.rows[torch.randperm(len(self.rows))] if self.shuffle else self.rows
        return rows.to(self.tensors[0].device).split(self.batch_size)[: len(self)]  # no row splits into one empty batch

    def batch(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The examples at `rows`, as `(inputs, labels)`, the inputs transformed."""
        inputs, *others = (to_device(tensor.index_select(0, rows), self.device) for tensor in self.tensors)
        return (inputs if self.transform is None else self.transform(inputs), *others)


def _as_tensor(array: Any) -> Tensor:
    try:
        return torch.as_tensor(array)
    except (TypeError, ValueError, RuntimeError) as error:
        what = f"it holds tensors and arrays, and was given {form_of(array)} ({error})"
        raise UserError(f"TensorBatches: {what}; a DataLoader makes batches of other things") from error
