"""Passes whose batches are planned, each with its seed, so that one may begin at any of them."""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, Sampler

from engine.data.batches import TensorBatches
from engine.data.one_pass import Batch, Pass, begin_pass, plain_attributes, told_of_memory
from engine.data.seeded import Asked, batches_of, chain
from engine.data.shares import EMPTY, Share
from engine.data.workers import Digest, led, start_method_of, started
from engine.errors import UserError
from engine.randomness import seed_everything
from engine.seeds import derive


class TensorPasses:
    """Passes over a `TensorBatches`: each batch is indexed under its own seed."""

    follows_on = False

    def __init__(self, loader: TensorBatches, share: Share) -> None:
        self.loader = loader
        self.share = share

    def run(self, this: Pass, start: int = 0) -> Iterator[Batch]:
        """The batches of a pass from `start` on."""
        seed_everything(this.order_seed)
        order = self.loader.order()[start:]
        asked = order if self.share.count == 1 else in_memory(order)
        for index, rows in enumerate(order, start):
            seed_everything(self.share.seed(this.seed, index))
            own = self.share.of(rows)
            yield self.loader.batch(own) if len(own) else EMPTY, len(own), asked[index - start]

    def count(self, this: Pass, most: int) -> int:
        """How many batches a pass has."""
        return len(self.loader)


def in_memory(order: Sequence[Tensor]) -> Sequence[Tensor]:
    """The rows of each batch where the processes can compare them; all at once, as a GPU is waited for."""
    return torch.cat([*order]).cpu().split([len(rows) for rows in order]) if order else order


class PlannedPasses:
    """Passes over a map-style `DataLoader`: its own sampler says what is in each batch, one seed goes with the batch.

    So any number of worker processes, persistent or not, gives the same numbers, and a pass may begin anywhere.
    """

    follows_on = False

    def __init__(self, loader: DataLoader[Any], share: Share) -> None:
        self.loader = loader
        self.share = share
        self.plan = Plan(loader, share)
        self.indices: Any = None  # that the data set was asked for in the latest batch
        self._told = False
        self._sent: bytes | None = None
        self._planned = self._rebuilt(loader.persistent_workers)

    def run(self, this: Pass, start: int = 0) -> Iterator[Batch]:
        """The batches of a pass from `start` on."""
        self.plan.begin(this, start)
        for index, batch in enumerate(started(self._current()), start):
            seed_everything(self.share.seed(this.seed, index))  # after the fetch: items may have used the generators
            asked, self.indices = self.plan.entries.popleft()
            if self.indices is None:
                yield batch, None, None
            else:
                yield batch if len(self.indices) else EMPTY, len(self.indices), asked
        self._told = self._told or told_of_memory(self.plan.before, plain_attributes(self.plan.samplers))

    def count(self, this: Pass, most: int) -> int:
        """How many batches a pass has, as far as `most`; drawn, not fetched, where its sampler's len() may not hold."""
        if self.plan.draws_at_once:
            return len(self.loader)
        self.plan.begin(this, 0)
        return sum(1 for _ in itertools.islice(self.plan, most))

    def _current(self) -> DataLoader[Any]:
        """The loader to iterate. Workers that begin from nothing live on, until what they were sent has changed."""
        loader = self.loader
        if loader.num_workers and not loader.persistent_workers and start_method_of(loader) != "fork":
            sent = Digest.of(loader.dataset, loader.collate_fn, loader.worker_init_fn)
            if sent is None or sent != self._sent:
                self._sent, self._planned = sent, self._rebuilt(persistent_workers=True)
        return self._planned

    def _rebuilt(self, persistent_workers: bool) -> DataLoader[Any]:
        in_batches = self.loader.batch_sampler is not None
        items, collate_fn = batches_of(self.loader)
        return DataLoader(
            items,
            **({"batch_sampler": self.plan} if in_batches else {"batch_size": None, "sampler": self.plan}),
            num_workers=self.loader.num_workers,
            collate_fn=collate_fn,
            pin_memory=self.loader.pin_memory,
            timeout=self.loader.timeout,
            worker_init_fn=led(self.loader.worker_init_fn),
            multiprocessing_context=self.loader.multiprocessing_context,
            prefetch_factor=self.loader.prefetch_factor,
            persistent_workers=persistent_workers,
        )


class Plan(Sampler[Asked]):
    """What the batches of a pass hold, drawn from a loader's own sampler as they are needed, each with its seed.

    Of each, the share of this process; where that is empty, a row is asked for all the same, and then left out.
    """

    def __init__(self, loader: DataLoader[Any], share: Share) -> None:
        self.loader = loader
        self.share = share
        self.sampler: Any = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
        self.samplers = list(chain(self.sampler, "sampler"))
        if share.count > 1 and any(isinstance(part, DistributedSampler) for part in self.samplers):
            raise UserError(
                "each process takes its share of every batch by itself: leave DistributedSampler out, so that the "
                "loader gives the batches of all"
            )
        self.draws_at_once = all(_draws_at_once(part) for part in self.samplers)
        self.begin(Pass(0, 0, 0), 0)

    def begin(self, this: Pass, start: int) -> None:
        """Choose the pass, and the batch from which on it is drawn up."""
        self.this, self.start = this, start
        self.before: dict[str, Any] = {}  # what its samplers remembered
        self.entries: deque[tuple[Any, Any]] = deque()  # of the batches on their way: what is asked for, and our share

    def __iter__(self) -> Iterator[Asked]:
        begin_pass(self.loader, self.this)
        self.before = plain_attributes(self.samplers)
        entries = iter(self.sampler)
        for index in itertools.count():
            if index and not self.draws_at_once:  # items and the network draw in between
                seed_everything(derive(self.this.order_seed, index))
            try:
                entry = next(entries)
            except StopIteration:
                return
            if index >= self.start:
                is_batch = isinstance(entry, list) or (
                    self.loader.batch_sampler is not None and hasattr(entry, "__len__")
                )
                own = self.share.of(entry) if is_batch else entry
                self.entries.append((entry, own if is_batch else None))
                seed = derive(self.this.seed, index)
                if is_batch:
                    yield self.share.seed(seed, 1), own if len(own) else entry[:1]
                else:  # a whole batch, the same in each process
                    yield derive(seed, 1), entry


def _draws_at_once(sampler: Any) -> bool:
    """Whether a sampler is one of PyTorch's, or a list: all is drawn at the first batch, and its len() holds."""
    return isinstance(sampler, list | tuple | range) or type(sampler).__module__ == Sampler.__module__
