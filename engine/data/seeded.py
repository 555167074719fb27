"""A data set whose batches are drawn under seeds of their own, in whichever process."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import Dataset

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


def chain(part: Any, name: str) -> Iterator[Any]:
    """A part, then the one it holds by this name, and so on: a subset, its data set."""
    seen: set[int] = set()
    while part is not None and id(part) not in seen:
        seen.add(id(part))
        yield part
        part = getattr(part, "__dict__", {}).get(name)
