"""Which examples are in a split, as far as its loader can tell: so that the same split is known again."""

import hashlib
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

import numpy as np
from torch.utils.data import Subset, TensorDataset

from engine.data.batches import TensorBatches

MOST_ROWS = 1000  # of tensors, looked at to tell their content


def fingerprint(batches: Any) -> str | None:
    """Few letters that are the same for the same examples in the same order; None where nothing tells them apart.

    They follow from names where the loader has some, else from indices into a data set, else from the tensors of one.
    """
    told = examples_of(batches)
    return None if told is None else hashlib.blake2b(repr(told).encode(), digest_size=8).hexdigest()


def shared_examples(one: Any, other: Any) -> int:
    """How many examples of one split are in another, too, where both are parts of the same data."""
    if _whole(one) is not _whole(other):
        return 0
    told, others = examples_of(one), examples_of(other)
    return 0 if told is None or others is None else len(set(told) & set(others))


def examples_of(batches: Any) -> list[Any] | None:
    """What tells the examples of a split apart: names, or indices; None where there is neither."""
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
    if indices is not None:
        return sorted(indices) if chosen is not None else indices
    return _content(dataset)


def _content(dataset: Any) -> list[Any] | None:
    """What tells a whole data set: the files of an image folder, or some rows of tensors."""
    files = getattr(dataset, "samples", None)
    if isinstance(files, list) and files and isinstance(files[0], tuple) and isinstance(files[0][0], str):
        return ["/".join(PurePath(path).parts[-2:]) for path, *_ in files]
    if isinstance(dataset, TensorDataset):
        step = max(1, len(dataset) // MOST_ROWS)
        rows = [np.ascontiguousarray(tensor[::step].cpu().numpy()).tobytes() for tensor in dataset.tensors]
        return [len(dataset), hashlib.blake2b(b"".join(rows), digest_size=16).hexdigest()]
    return None


def _whole(batches: Any) -> Any:
    """The data of which a split is a part."""
    if isinstance(batches, TensorBatches):
        return batches.tensors[0]
    dataset = getattr(batches, "dataset", batches)
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


def _plain(indices: Iterable[Any]) -> list[int]:
    return [int(index) for index in indices]
