"""Which examples are in a split, as far as its loader can tell: so that they are known again."""

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from engine.data.batches import TensorBatches

MOST_ROWS = 1000  # of tensors, looked at to tell their content
MOST_MARKS = 4096  # that are kept of a split: 32 kB in each checkpoint
LARGEST_CONTENT = 2**30  # bytes of tensors, of which each row is looked at
LOOKED_AT = 32  # numbers of a row


def fingerprint(batches: Any) -> str | None:
    """Few letters that are the same for the same examples in the same order; None where nothing tells them apart.

    They follow from names where the loader has some, else from indices into a data set, else from the content of one.
    """
    told = examples_of(batches)
    return None if told is None else hashlib.blake2b(repr(told).encode(), digest_size=8).hexdigest()


def shared_examples(one: Any, other: Any) -> int:
    """How many examples of one split are in another, too, where both are parts of the same data."""
    if _whole(one) is not _whole(other):
        return 0
    told, others = (_places(batches) or _all_places(batches) for batches in (one, other))
    return len(set(told) & set(others))


def sketch(batches: Any) -> Tensor | None:
    """(K,) int64: the smallest marks of a split's examples, so few that each checkpoint can hold them; None for none.

    Which ones are kept follows from the examples alone, so that of those which two large splits share some are in both
    sketches (Broder, "On the resemblance and containment of documents", 1997).
    """
    marks = _marks(batches)
    if marks is None:
        return None
    kept = np.partition(marks, MOST_MARKS)[:MOST_MARKS] if len(marks) > MOST_MARKS else marks
    return torch.from_numpy(np.unique(kept))


def may_share(batches: Any, kept: Tensor) -> bool:
    """Whether some example of a split has the mark of one in a sketch; equal ones do, and now and then others."""
    marks = _marks(batches)
    return marks is not None and bool(np.isin(marks[marks <= kept.max().item()], kept.numpy()).any())


def examples_of(batches: Any) -> list[Any] | None:
    """What tells the examples of a split apart: names, or indices, or what is in them; None where nothing does."""
    if isinstance(batches, TensorBatches):
        is_told = batches.names is not None or len(batches.members) < batches.pool
        return _places(batches) if is_told else _content(batches.tensors, batches.rows)
    if (places := _places(batches)) is not None:
        return places
    dataset = _whole(batches)
    if files := _files(dataset):
        return ["/".join(PurePath(path).parts[-2:]) for path in files]
    return _content(dataset.tensors, torch.arange(len(dataset))) if isinstance(dataset, TensorDataset) else None


def _places(batches: Any) -> list[Any] | None:
    """The names or indices of a split's examples; None where it has neither."""
    if getattr(batches, "names", None) is not None:
        return [str(name) for name in batches.names]
    if isinstance(batches, TensorBatches):
        return batches.members.tolist()
    dataset = getattr(batches, "dataset", None)
    chosen = getattr(getattr(batches, "sampler", None), "indices", None)
    indices = None if chosen is None else _plain(chosen)
    while isinstance(dataset, Subset):
        inner = _plain(dataset.indices)
        indices = inner if indices is None else [inner[index] for index in indices]
        dataset = dataset.dataset
    return sorted(indices) if indices is not None and chosen is not None else indices


def _all_places(batches: Any) -> Sequence[int]:
    """The indices into all of a data set; none into what is no map-style one."""
    dataset: Any = getattr(batches, "dataset", None)
    is_mapped = isinstance(batches, DataLoader) and not isinstance(dataset, IterableDataset)
    return range(len(dataset)) if is_mapped and hasattr(dataset, "__len__") else ()


def _content(tensors: Sequence[Tensor], rows: Tensor) -> list[Any] | None:
    """What tells rows of tensors: some of them, by their whole numbers if they have any.

    The last bits of other numbers, such as those of a normalisation, may be others on another machine.
    """
    whole = [tensor for tensor in tensors if not (tensor.is_floating_point() or tensor.is_complex())]
    looked_at = rows[:: max(1, len(rows) // MOST_ROWS)]
    if not all(map(_is_dense, tensors)):
        return None
    parts = [_bytes_of(tensor[looked_at.to(tensor.device)].reshape(-1)).tobytes() for tensor in whole or tensors]
    return [len(rows), hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()]


def _marks(batches: Any) -> np.ndarray | None:
    """A number for each example that is told apart: of its name, of its place in the data, or of its content.

    The place counts together with what the data are and how many, the content where the split is all of the data.
    """
    dataset, places = _whole(batches), _places(batches)
    is_resident = isinstance(batches, TensorBatches)
    if getattr(batches, "names", None) is not None:
        kind, numbers = "names", _numbers(places or ())
    elif places is not None and not (is_resident and len(places) == batches.pool):
        size = batches.pool if is_resident else len(dataset)
        kind, numbers = f"{type(dataset).__qualname__} of {size}", _numbers(places)
    elif files := _files(dataset):
        kind, numbers = "files", _numbers("/".join(PurePath(path).parts[-3:]) for path in files)
    else:
        tensors = batches.tensors if is_resident else getattr(dataset, "tensors", ())
        kind, numbers = "contents", _row_numbers(tensors)
    if not numbers:
        return None
    mixed = np.array(numbers, dtype=np.int64).astype(np.uint64) + np.uint64(zlib.crc32(kind.encode()) << 32)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # as in `engine.seeds`
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed >> np.uint64(1)).astype(np.int64)


def _numbers(examples: Iterable[Any]) -> list[int]:
    """Whole numbers as they are, and one for each name."""
    return [one if type(one) is int else zlib.crc32(str(one).encode(errors="surrogatepass")) for one in examples]


def _row_numbers(tensors: Sequence[Any]) -> list[int]:
    """A number for each row of tensors, of some of what is in it; none where there is too much to look at."""
    if not all(map(_is_dense, tensors)) or sum(tensor.nbytes for tensor in tensors) > LARGEST_CONTENT:
        return []
    tables = [tensor.reshape(len(tensor), -1) for tensor in tensors if tensor.numel()]
    parts = [_bytes_of(table[:, :: -(-table.shape[1] // LOOKED_AT)]) for table in tables]
    return [zlib.crc32(row) for row in np.concatenate(parts, axis=1)] if parts else []


def _bytes_of(numbers: Tensor) -> np.ndarray:
    """The bytes of numbers of whatever type, along the last dimension."""
    return numbers.contiguous().cpu().view(torch.uint8).numpy()


def _is_dense(tensor: Any) -> bool:
    return isinstance(tensor, Tensor) and tensor.layout == torch.strided


def _files(dataset: Any) -> list[str]:
    """The files of an image folder; none for other data."""
    files = getattr(dataset, "samples", None)
    is_told = isinstance(files, list) and files and isinstance(files[0], tuple) and isinstance(files[0][0], str)
    return [path for path, *_ in files] if is_told and files else []


def _whole(batches: Any) -> Any:
    """The data of which a split is a part."""
    if isinstance(batches, TensorBatches):
        return batches.tensors[0]
    dataset = getattr(batches, "dataset", batches)
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


def _plain(indices: Iterable[Any]) -> list[Any]:
    """Indices as plain numbers; the names that some data sets are asked by as they are."""
    return [index if type(index) is int or not hasattr(index, "__index__") else int(index) for index in indices]
