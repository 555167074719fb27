"""Tensors nested in tuples, lists and dicts: what batches, labels and outputs may be."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from engine.errors import UserError


def map_tensors(function: Callable[[Tensor], Any], nested: Any) -> Any:
    """The same nesting with `function` applied to each tensor; all else stays as it is.

    >>> map_tensors(len, {"words": torch.zeros(4, 7), "files": ["a", "b"]})
    {'words': 4, 'files': ['a', 'b']}
    """
    if isinstance(nested, Tensor):
        return function(nested)
    if isinstance(nested, dict):
        return type(nested)((key, map_tensors(function, value)) for key, value in nested.items())
    if isinstance(nested, tuple) and hasattr(nested, "_fields"):
        return type(nested)(*(map_tensors(function, value) for value in nested))
    if isinstance(nested, list | tuple):
        return type(nested)(map_tensors(function, value) for value in nested)
    return nested


def tensors_in(nested: Any) -> Iterator[Tensor]:
    """Each tensor, in order."""
    if isinstance(nested, Tensor):
        yield nested
    elif isinstance(nested, dict):
        for value in nested.values():
            yield from tensors_in(value)
    elif isinstance(nested, list | tuple):
        for value in nested:
            yield from tensors_in(value)


def count_examples(*nested: Any) -> int:
    """How many examples a batch holds: the first dimension of its first tensor that has one."""
    for tensor in tensors_in(nested):
        if tensor.dim() > 0:
            return len(tensor)
    raise UserError("the size of a batch cannot be told: it holds no tensor with a first dimension")


def as_pair(batch: Any) -> tuple[Any, Any]:
    """The (inputs, labels) of a batch; the labels are None where it holds inputs alone."""
    if isinstance(batch, Tensor):
        return batch, None
    if isinstance(batch, tuple | list) and 1 <= len(batch) <= 2:
        return batch[0], batch[1] if len(batch) == 2 else None
    form = f"a {type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, tuple | list | dict) else "")
    raise UserError(f"a batch is {form}, not (inputs, labels): net.py needs a function step(model, batch, params)")
