"""The training batches of each epoch: the same ones in the same order, from any batch on, whenever they are asked for.

An epoch is a stretch of an endless walk through the data, pass after pass. What is drawn at random, the order of a
pass and whatever a batch needs, follows from (seed, pass, batch); so no state of any generator has to be kept.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset, IterableDataset

from engine.data.batches import TensorBatches
from engine.errors import UserError
from engine.randomness import seed_everything
from engine.seeds import derive

Item = tuple[Any, int]  # what to ask a data set for, and the seed under which to ask


class Feed:
    """The batches of a loader, epoch by epoch.

    >>> feed = Feed(loader, seed=230)
    >>> for batch in feed.epoch(3, start=10): ...  # the fourth epoch, from its eleventh batch on

    With `max_batches`, each pass ends after so many, and they hold the same examples in every pass. An epoch is a pass,
    or `batches_per_epoch` batches, wherever in a pass the one before it ended.
    """

    def __init__(
        self, loader: Iterable[Any], seed: int, max_batches: int | None = None, batches_per_epoch: int | None = None
    ) -> None:
        self.seed = seed
        self.max_batches = max_batches
        self.batches_per_pass = _length(loader, max_batches)
        self._length_said_by = "len() of the training batches" if hasattr(loader, "__len__") else '"max_train_batches"'
        self.batches_per_epoch = _first_known(batches_per_epoch, self.batches_per_pass)
        self.first_batch: Any = None
        self._passes = _kind(loader)(loader)
        self._walk: Iterator[Any] = iter(())
        self._position = -1  # of the walk, in batches since the very first

    def __len__(self) -> int:
        return self.batches_per_epoch

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """The batches of one epoch (counted from 0), from batch `start` on."""
        position = epoch * len(self) + start
        if position != self._position:
            self._walk, self._position = self._walk_from(position), position
        for batch in itertools.islice(self._walk, len(self) - start):
            self._position += 1
            if self.first_batch is None:
                self.first_batch = batch
            yield batch
        if self.batches_per_pass and self._position % self.batches_per_pass == 0:
            self._walk, self._position = iter(()), -1  # the end of a pass: its loader's processes may go

    def _walk_from(self, position: int) -> Iterator[Any]:
        """All batches from a position on, pass after pass; through passes of unknown length the way is walked again."""
        if self.batches_per_pass is None:
            return itertools.islice(self._walk_through(0, 0), position, None)
        return self._walk_through(*divmod(position, self.batches_per_pass))

    def _walk_through(self, number: int, start: int) -> Iterator[Any]:
        """All batches from batch `start` of pass `number` on."""
        while True:
            order_seed = derive(self.seed, 0 if self.max_batches else number)
            batches = self._passes.run(order_seed, derive(self.seed, number, 1), start, self.batches_per_pass)
            given = start
            for batch in batches:
                given += 1
                yield batch
            if given == 0:
                raise UserError(f"the training data gave no batch in pass {number + 1}; can it be iterated only once?")
            if self.batches_per_pass and given < self.batches_per_pass:  # where to go on could not be told from a count
                raise UserError(f"{self._length_said_by} says {self.batches_per_pass}, but a pass gave {given}")
            number, start = number + 1, 0


class SamePass:
    """A pass over a loader that is the same each time, however many processes make it; what evaluation goes through.

    >>> batches = SamePass(loader, seed=230)
    >>> for batch in batches: ...
    """

    def __init__(self, loader: Iterable[Any], seed: int) -> None:
        self.seed = seed
        self._passes = _kind(loader)(loader)

    def __iter__(self) -> Iterator[Any]:
        return self._passes.run(self.seed, derive(self.seed, 0, 1), 0, None)


class TensorPasses:
    """Passes over a `TensorBatches`: each batch is indexed under its own seed."""

    def __init__(self, loader: TensorBatches) -> None:
        self.loader = loader

    def run(self, order_seed: int, seed: int, start: int, stop: int | None) -> Iterator[Any]:
        """Batches `start` to `stop` of the pass that `order_seed` shuffles."""
        seed_everything(order_seed)
        for index, rows in enumerate(self.loader.order()[start:stop], start):
            seed_everything(derive(seed, index))
            yield self.loader.batch(rows)


class DataLoaderPasses:
    """Passes over a map-style `DataLoader`: its own sampler draws the order, each index carries the seed of its item.

    So any number of worker processes, persistent or not, gives the same numbers.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader
        self.plan = Plan()
        self.in_batches = loader.batch_sampler is not None
        self.sampler: Any = loader.batch_sampler if self.in_batches else loader.sampler
        self.seeded = DataLoader(
            SeededItems(loader.dataset),
            **({"batch_sampler": self.plan} if self.in_batches else {"batch_size": None, "sampler": self.plan}),
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
            prefetch_factor=loader.prefetch_factor,
            persistent_workers=loader.persistent_workers,
        )

    def run(self, order_seed: int, seed: int, start: int, stop: int | None) -> Iterator[Any]:
        """Batches `start` to `stop` of the pass that `order_seed` shuffles."""
        seeded = _with_seeds if self.in_batches else _with_seed
        self.plan.entries = [
            seeded(entry, derive(seed, index, 1)) for index, entry in enumerate(self._order(order_seed)[:stop])
        ][start:]
        for index, batch in enumerate(self.seeded, start):
            seed_everything(derive(seed, index))  # after the fetch: without workers, items have used the generators
            yield batch

    def _order(self, order_seed: int) -> list[Any]:
        """The indices of a pass, as the loader's own sampler draws them from generators seeded with `order_seed`."""
        seed_everything(order_seed)
        inner = getattr(self.loader.batch_sampler, "sampler", None)
        for holder in (self.loader, self.loader.sampler, self.loader.batch_sampler, inner):
            generator = getattr(holder, "generator", None)
            if generator is not None:
                generator.manual_seed(order_seed)
        return list(self.sampler)


class OtherPasses:
    """Passes over anything else that iterates, replayed from its first batch up to where it is to start."""

    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader = loader

    def run(self, order_seed: int, seed: int, start: int, stop: int | None) -> Iterator[Any]:
        """Batches `start` to `stop` of the pass that begins under `order_seed`."""
        seed_everything(order_seed)
        batches = iter(self.loader)
        for index in range(stop) if stop else itertools.count():
            seed_everything(derive(seed, index))
            try:
                batch = next(batches)
            except StopIteration:
                return
            if index >= start:
                yield batch


class Plan:
    """The batches of indices that a rebuilt `DataLoader` is to fetch, changed from pass to pass."""

    def __init__(self) -> None:
        self.entries: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


class SeededItems(Dataset[Any]):
    """A data set asked for (index, seed): the generators are seeded, then the item is made."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, item: Item) -> Any:
        index, seed = item
        seed_everything(seed)
        return self.dataset[index]

    def __getitems__(self, items: Sequence[Item]) -> Any:
        if not hasattr(self.dataset, "__getitems__"):
            return [self[item] for item in items]
        seed_everything(items[0][1])
        return self.dataset.__getitems__([index for index, _ in items])


def _with_seeds(batch: Iterable[Any], seed: int) -> list[Item]:
    """A batch of indices together with the seed of each."""
    return [(index, derive(seed, position)) for position, index in enumerate(batch)]


def _with_seed(index: Any, seed: int) -> Item:
    """What a loader without batching asks its data set for, be it one index or several, with a seed."""
    return index, seed


def _kind(loader: Any) -> type:
    if isinstance(loader, TensorBatches):
        return TensorPasses
    if isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset):
        return DataLoaderPasses
    return OtherPasses


def _length(loader: Any, max_batches: int | None) -> int | None:
    """How many batches a pass has; None for a stream, which does not know."""
    try:
        length = len(loader)
    except TypeError:  # a stream
        return max_batches
    if length == 0:
        raise UserError("the training split holds no batch; is batch_size larger than the data, with drop_last?")
    return length if max_batches is None else min(length, max_batches)


def _first_known(*lengths: int | None) -> int:
    for length in lengths:
        if length is not None:
            return length
    raise UserError('the training batches have no len(); set "max_train_batches" or "steps_per_epoch" in params.json')
