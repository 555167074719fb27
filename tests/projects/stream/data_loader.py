"""Readings that come one after another, without end or for `num_hours`; to be predicted from the two before."""

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from utils import Params

Example = tuple[Tensor, dict[str, Tensor]]


class Readings(IterableDataset[Example]):
    """(2,) readings of the hours before, with the next one and its hour."""

    def __init__(self, first: int, count: int | None) -> None:
        self.first = first
        self.count = count

    def __iter__(self) -> Iterator[Example]:
        for hour in itertools.islice(itertools.count(self.first), self.count):
            before, after = torch.tensor([reading(hour - 2), reading(hour - 1)]), torch.tensor(reading(hour))
            yield before, {"reading": after, "hour": torch.tensor(hour)}


def reading(hour: int) -> float:
    """The temperature goes up and down with the day."""
    return math.sin(hour * math.tau / 24)


def fetch_dataloader(types: Sequence[str], data_dir: str, params: Params) -> dict[str, DataLoader[Example]]:
    """Streams: they have no len()."""
    streams = {"train": Readings(0, params.num_hours), "val": Readings(1000, 30), "test": Readings(2000, 30)}
    return {split: DataLoader(streams[split], batch_size=params.batch_size) for split in types}
