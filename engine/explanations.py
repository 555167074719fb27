"""PyTorch's errors that have a known cause, told as that cause."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from engine.errors import UserError

IGNORED_LABEL = -100  # what torch's cross-entropy leaves out


@contextlib.contextmanager
def label_errors_explained(outputs: Any, labels: Any) -> Iterator[None]:
    """Turn what a loss raises for a label that the network has no output for into a `UserError` that names it."""
    try:
        yield
    except (IndexError, RuntimeError) as error:
        classes = outputs.shape[-1] if isinstance(outputs, Tensor) and outputs.dim() > 1 else None
        if classes is None or not isinstance(labels, Tensor) or labels.is_floating_point():
            raise
        wrong = labels[((labels < 0) | (labels >= classes)) & (labels != IGNORED_LABEL)]
        if len(wrong) == 0:
            raise
        raise UserError(
            f"label {int(wrong[0])} is outside the network's {classes} outputs, which are for labels 0 to {classes - 1}"
        ) from error


@contextlib.contextmanager
def memory_errors_explained(batch_size: int) -> Iterator[None]:
    """Turn running out of memory into a `UserError` that says what to change."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        host_is_full = isinstance(error, MemoryError) or "can't allocate memory" in str(error)
        if not isinstance(error, torch.OutOfMemoryError) and not host_is_full:
            raise
        place = "this computer" if host_is_full else "the GPU"
        raise UserError(
            f'out of memory on {place} with "batch_size": {batch_size}; halve batch_size and set "accumulate": 2, '
            "which trains the same"
        ) from error
