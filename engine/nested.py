"""Tensors nested in tuples, lists and dicts: what batches, labels and outputs may be."""

import copy
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.errors import UserError, form_of

PLAIN = (Tensor, np.ndarray, np.generic, str, bytes, int, float, type(None))


def map_tensors(function: Callable[[Any], Any], nested: Any, kind: type | tuple[type, ...] = Tensor) -> Any:
    """The same nesting with `function` applied to each tensor, or each of another `kind`; all else stays as it is.

    >>> map_tensors(len, {"words": torch.zeros(4, 7), "files": ["a", "b"]})
    {'words': 4, 'files': ['a', 'b']}
    """
    if isinstance(nested, kind):
        return function(nested)
    if type(nested) in (tuple, list):  # as most are; to tell what others are takes several times as long
        return type(nested)([map_tensors(function, value, kind) for value in nested])
    if isinstance(nested, MutableMapping):
        mapped = copy.copy(nested)  # whatever else the mapping knows, such as the default of a defaultdict
        for key, value in nested.items():  # one by one: the outputs of Hugging Face's networks refuse an update
            mapped[key] = map_tensors(function, value, kind)
        return mapped
    if isinstance(nested, tuple) and hasattr(nested, "_fields"):  # made without its checks: they are for tensors
        return tuple.__new__(type(nested), [map_tensors(function, value, kind) for value in nested])
    if isinstance(nested, list | tuple):
        return type(nested)(map_tensors(function, value, kind) for value in nested)
    return nested


def tensors_in(nested: Any, kind: type = Tensor) -> Iterator[Any]:
    """Each tensor, or each of another `kind`, in order."""
    if isinstance(nested, kind):
        yield nested
    elif isinstance(nested, MutableMapping):
        for value in nested.values():
            yield from tensors_in(value, kind)
    elif isinstance(nested, list | tuple):
        for value in nested:
            yield from tensors_in(value, kind)


def is_plain(nested: Any) -> bool:
    """Whether it holds nothing but tensors, arrays, numbers and texts, so that a copy of it stays as it is."""
    if isinstance(nested, PLAIN):
        return True
    if isinstance(nested, MutableMapping):
        return all(map(is_plain, nested.values()))
    return isinstance(nested, list | tuple) and all(map(is_plain, nested))


def count_examples(nested: Any, asked: int | None = None) -> int:
    """How many examples a batch holds: the first dimension of its first tensor that has one.

    Of a list or tuple with a part for each example, as many as there are parts. `asked` is how many the data set was
    asked for, where that is known. Raises `UserError` where it is the second dimension, and what a mean is over cannot
    be told. Where there are no tensors, arrays of NumPy are counted alike.
    """
    if isinstance(nested, Tensor) and nested.dim() > 0 and asked in (None, nested.shape[0]):
        return nested.shape[0]  # as most are
    if not any(True for _ in tensors_in(nested)):
        nested = map_tensors(lambda array: torch.empty(array.shape, device="meta"), nested, np.ndarray)
    sizes = next((tuple(tensor.shape) for tensor in tensors_in(nested) if tensor.dim() > 0), ())
    if isinstance(nested, list | tuple) and not hasattr(nested, "_fields") and _one_for_each(nested, sizes, asked):
        return len(nested)
    if not sizes:
        raise UserError(
            "the size of a batch cannot be told, as it holds no tensor with a first dimension: return (total, count) "
            "instead, from loss_fn or the metric"
        )
    if asked in sizes[1:2] and asked != sizes[0]:
        raise UserError(
            f"a batch of {asked} examples has a tensor of shape {sizes}, and what a mean over it is the mean of cannot "
            "be told: return (total, count) instead, from loss_fn or the metric"
        )
    return sizes[0]


def _one_for_each(parts: Sequence[Any], sizes: tuple[int, ...], asked: int | None) -> bool:
    """Whether the parts of a list or tuple, whose first tensor has these sizes, belong to an example each."""
    if sizes[:1] == (asked,) or not any(True for _ in tensors_in(parts)):
        return False  # there is a part for each kind of label
    lengths = {len(tensor) if tensor.dim() else None for tensor in tensors_in(parts)}
    alike = len(lengths) == 1 and not isinstance(parts[0], dict)
    return len(parts) == asked or lengths == {None} or not alike


def as_pair(batch: Any) -> tuple[Any, Any]:
    """The (inputs, labels) of a batch; the labels are None where it holds inputs alone."""
    if isinstance(batch, Tensor):
        return batch, None
    if isinstance(batch, tuple | list) and 1 <= len(batch) <= 2:
        return batch[0], batch[1] if len(batch) == 2 else None
    raise UserError(
        f"a batch is {form_of(batch)}, not (inputs, labels): net.py needs a function step(model, batch, params)"
    )
