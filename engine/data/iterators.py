"""Loaders in the manner of the course's text example: a class that hands out a fresh iterator for each pass."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from engine.hyperparameters import Params


class IteratorBatches:
    """The batches of one split, a new `data_iterator` each time they are gone through."""

    def __init__(self, loader: Any, data: dict[str, Any], params: Params, shuffle: bool) -> None:
        self.loader = loader
        self.data = data
        self.params = params
        self.shuffle = shuffle

    def __len__(self) -> int:
        return (self.data["size"] + 1) // self.params.batch_size  # as the course counted them

    def __iter__(self) -> Iterator[Any]:
        batches = self.loader.data_iterator(self.data, self.params, shuffle=self.shuffle)
        return itertools.islice(batches, len(self))  # the course's scripts asked for no more, whatever would come then


def fetch_iterators(
    make_loader: Callable[[str, Params], Any], types: Sequence[str], data_dir: str, params: Params
) -> dict[str, IteratorBatches]:
    """What `fetch_dataloader` is to return, from a class `DataLoader(data_dir, params)` with `load_data` and
    `data_iterator`; sets `train_size` and the like on `params`, as the course's scripts did."""
    loader = make_loader(data_dir, params)
    loaded = loader.load_data(list(types), data_dir)
    for split, data in loaded.items():
        setattr(params, f"{split}_size", data["size"])
    return {split: IteratorBatches(loader, data, params, shuffle=split == "train") for split, data in loaded.items()}
