"""A data set whose batches are drawn under seeds of their own, in whichever process."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, default_collate

from engine.randomness import seed_everything, seed_generators

Asked = tuple[int, Any]  # a seed, and what to ask a data set for under it: an index, or those of a batch


class SeededItems(Dataset[Any]):
    """A data set that is asked for (seed, index): the generators are seeded, its own among them, then the item is made.

    One process fetches all of a batch, so that one seed for it gives the same numbers for any number of workers.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, asked: Asked) -> Any:
        self._seed(asked[0])
        return self.dataset[asked[1]]

    def __getitems__(self, asked: tuple[int, Sequence[Any]]) -> Any:
        seed, indices = asked
        self._seed(seed)
        if getattr(self.dataset, "__getitems__", None):
            return self.dataset.__getitems__(indices)
        return [self.dataset[index] for index in indices]

    def _seed(self, seed: int) -> None:
        seed_everything(seed)
        for part in chain(self.dataset, "dataset"):
            seed_generators(part, seed)


class GatheredBatches(SeededItems):
    """Batches of a `TensorDataset`, or of a subset of one, as `default_collate` would make them of its items.

    They are made by one operation for each tensor, which draws nothing, and takes a fraction of the time.
    """

    def __init__(self, dataset: Any) -> None:
        super().__init__(dataset)
        *self._subsets, self._whole = chain(dataset, "dataset")

    def __getitems__(self, asked: tuple[int, Sequence[Any]]) -> list[Tensor]:
        indices = asked[1]
        for subset in self._subsets:
            indices = [subset.indices[index] for index in indices]
        rows = np.array(indices)
        if rows.ndim != 1 or rows.dtype != np.int64:  # slices, say: what a sampler gives may be anything
            return default_collate(super().__getitems__(asked))
        index = torch.from_numpy(rows)
        return [tensor[index] for tensor in self._whole.tensors]


def batches_of(loader: DataLoader[Any]) -> tuple[SeededItems, Callable[[Any], Any] | None]:
    """What a loader that draws under seeds is to hold in place of this one's data set, and its `collate_fn`."""
    *subsets, whole = chain(loader.dataset, "dataset")
    is_plain = type(whole) is TensorDataset and set(map(type, subsets)) <= {Subset}
    if is_plain and loader.collate_fn is default_collate and all(map(_lies_in_rows, whole.tensors)):
        return GatheredBatches(loader.dataset), _as_it_is
    return SeededItems(loader.dataset), loader.collate_fn


def _lies_in_rows(tensor: Any) -> bool:
    """Whether some rows of a tensor are the same taken at once and one by one, strides included."""
    return type(tensor) is Tensor and tensor.layout == torch.strided and tensor.is_cpu and tensor.is_contiguous()


def _as_it_is(batch: Any) -> Any:
    return batch


def chain(part: Any, name: str) -> Iterator[Any]:
    """A part, then the one it holds by this name, and so on: a subset, its data set."""
    seen: set[int] = set()
    while part is not None and id(part) not in seen:
        seen.add(id(part))
        yield part
        part = getattr(part, "__dict__", {}).get(name)
