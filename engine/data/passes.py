"""Passes over the loaders that tasks hand over, each under its seed and from any batch on.

What a loader yields is what comes out. The batches of a map-style `DataLoader` can be planned, so that a pass may begin
at any of them; one that tells its state is put back by it; those of another loader are gone through from the first on.
"""

import itertools
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, Sampler

from engine.data.batches import TensorBatches
from engine.data.seeded import Asked, SeededItems, chain
from engine.data.shares import EMPTY, Share
from engine.data.workers import Digest, led, start_method_of, started
from engine.errors import UserError
from engine.hyperparameters import Values
from engine.nested import tensors_in
from engine.randomness import seed_everything, seed_generators
from engine.seeds import derive

# This process's share, with how many examples were asked for it, and what was for the whole batch; or, where that is
# not known, the whole batch
Batch = tuple[Any, int | None, Any]


class Pass(NamedTuple):
    """One pass over a split: its number, the seed of its order, and that of all else that is drawn in it."""

    number: int
    order_seed: int
    seed: int


class TensorPasses:
    """Passes over a `TensorBatches`: each batch is indexed under its own seed."""

    follows_on = False

    def __init__(self, loader: TensorBatches, share: Share) -> None:
        self.loader = loader
        self.share = share

    def run(self, this: Pass, start: int = 0) -> Iterator[Batch]:
        """The batches of a pass from `start` on."""
        seed_everything(this.order_seed)
        for index, rows in enumerate(self.loader.order()[start:], start):
            seed_everything(self.share.seed(this.seed, index))
            own = self.share.of(rows)
            yield self.loader.batch(own) if len(own) else EMPTY, len(own), rows

    def count(self, this: Pass, most: int) -> int:
        """How many batches a pass has."""
        return len(self.loader)


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
        return DataLoader(
            SeededItems(self.loader.dataset),
            **({"batch_sampler": self.plan} if in_batches else {"batch_size": None, "sampler": self.plan}),
            num_workers=self.loader.num_workers,
            collate_fn=self.loader.collate_fn,
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


class ReplayedPasses:
    """Passes over anything else that iterates, gone through from the first batch on to where they are to start."""

    def __init__(self, loader: Any, share: Share) -> None:
        self.loader = loader
        self.share = share
        self.workers = loader.num_workers if isinstance(loader, DataLoader) else 0
        self.follows_on = self.workers > 0 and loader.persistent_workers  # generators live on in workers that do
        self._told = self._told_memory = False
        if self.workers:
            loader.worker_init_fn = led(loader.worker_init_fn)

    def run(self, this: Pass, start: int = 0) -> Iterator[Batch]:
        """The batches of a pass from `start` on."""
        if start:
            logging.info(f"Going through {start} batches of a {type(self.loader).__name__} again, to go on after them")
        begin_pass(self.loader, this)
        before = plain_attributes(parts_of(self.loader))
        yield from itertools.islice(self._taken(started(self.loader), this, 0), start, None)
        self._told_memory = self._told_memory or told_of_memory(before, plain_attributes(parts_of(self.loader)))

    def _taken(self, batches: Iterator[Any], this: Pass, first: int) -> Iterator[Batch]:
        """What an iterator gives, its first batch being number `first` of the pass, each under its seed."""
        latest = None
        for index in itertools.count(first):
            seed_everything(derive(this.seed, index))
            try:
                batch = next(batches)
            except StopIteration:
                return
            if self.workers > 1 and index < 2 and not self._told:
                latest = self._told_of_copies(latest, batch)
            if self.share.rank:  # the first has drawn as one process alone does, and goes on from there
                seed_everything(self.share.seed(this.seed, index))
            yield batch, None, None

    def _told_of_copies(self, first: Any, batch: Any) -> Any:
        """Warn if the first batches, of one worker each, are the same. Returns the batch."""
        pairs = list(itertools.zip_longest(tensors_in(first), tensors_in(batch)))
        if pairs and all(one is not None and other is not None and torch.equal(one, other) for one, other in pairs):
            self._told = True
            logging.warning(
                f"Each of the {self.workers} workers gives the same batches, so that each example comes {self.workers} "
                "times: share them out in the data set's __iter__, by torch.utils.data.get_worker_info()"
            )
        return batch


class StatefulPasses(ReplayedPasses):
    """Passes over a loader that says where it is by `state_dict`, and is put back there by `load_state_dict`.

    After a restart it gets its state once, between two passes as well, so that it has back what it remembers of them.
    """

    def __init__(self, loader: Any, share: Share) -> None:
        super().__init__(loader, share)
        self.follows_on, self._told_memory = False, True  # for nothing is forgotten
        self._done = 0  # batches of the latest pass
        self._is_over = False  # it has given all it had
        self._kept: Values | None = None  # the state to be put back to

    def state_dict(self) -> Values:
        """Where the loader is after the batch that was taken last."""
        if self._kept is not None:
            return self._kept
        state = self.loader.state_dict()
        return {"batches": self._done, "is_over": self._is_over, "workers": self.workers, "loader": state}

    def load_state_dict(self, state: Values) -> None:
        """Have the next pass that is run go on from there, or follow on it."""
        self._kept = state

    def run(self, this: Pass, start: int = 0) -> Iterator[Batch]:
        """The batches of a pass from `start` on: where the loader was, or the first one."""
        kept = self._kept
        if start and kept is not None and kept["is_over"]:
            return  # nothing was left of it; the state is for the pass that follows
        if kept is not None and start == 0 and not kept["is_over"]:
            name, kept = type(self.loader).__name__, None
            logging.warning(f"Each pass of a {name} is cut off: what it remembers of those before begins anew")
        self._kept, self._is_over = None, False
        batches = super().run(this, start) if kept is None else self._gone_on(this, start, kept)
        for self._done, batch in enumerate(batches, start + 1):
            yield batch
        self._is_over = True

    def _gone_on(self, this: Pass, start: int, kept: Values) -> Iterator[Batch]:
        """The batches of a pass, where the loader is to be as it was when `kept` was its state."""
        name = type(self.loader).__name__
        if kept["workers"] != self.workers:
            raise UserError(
                f"a {name} with {self.workers} workers cannot go on from the state of one with {kept['workers']}; set "
                '"num_workers" back'
            )
        begin_pass(self.loader, this)
        try:
            self._put_back(kept["loader"], this, start)
            batches = self._taken(started(self.loader), this, start)
        except (ValueError, KeyError, TypeError, RuntimeError, AssertionError) as error:
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise UserError(
                f"the {name} does not take back the state that it gave to the checkpoint ({reason}); has the task's "
                "code changed? --fresh starts over"
            ) from error
        logging.info(f"Put the {name} back to where it was, {start} batches into a pass")
        if self.workers:
            logging.warning(f"What its {self.workers} workers draw at random is as before only if its state holds it")
        for first in batches:
            return itertools.chain([first], batches)
        return iter(()) if start else super().run(this)  # some are still at the end of the pass before

    def _put_back(self, state: Any, this: Pass, start: int) -> None:
        """Give the loader its state; between two passes the one that comes is begun upon that, with its own seeds."""
        self.loader.load_state_dict(state)
        if start == 0:
            if _is_torchdatas(self.loader) and not getattr(self.loader, "persistent_workers", False):
                started(self.loader)  # only then it takes its state
            begin_pass(self.loader, this)


def passes_over(loader: Any, share: Share) -> TensorPasses | PlannedPasses | ReplayedPasses:
    """Passes over a loader, planned where that is sure to give what the loader itself would."""
    if isinstance(loader, TensorBatches):
        return TensorPasses(loader, share)
    has_state = _has_state(loader)
    if isinstance(loader, DataLoader) and _iterates_plainly(loader):
        is_stream = isinstance(loader.dataset, IterableDataset)
        if has_state:  # that of its parts; where they have none, torchdata goes through them again, under other seeds
            parts = [*parts_of(loader)[1:], *([iter(loader.dataset)] if is_stream else [])]
            has_state = any(_has_state(part) for part in parts)
        if not has_state and not is_stream:
            return PlannedPasses(loader, share)
    return StatefulPasses(loader, share) if has_state else ReplayedPasses(loader, share)


def begin_pass(loader: Any, this: Pass) -> None:
    """Tell the loader's parts which pass it is, and seed all generators, theirs too, with the seed of its order."""
    parts = parts_of(loader)
    for part in parts:
        if callable(getattr(part, "set_epoch", None)):
            part.set_epoch(this.number)
    seed_everything(this.order_seed)
    for part in parts:
        seed_generators(part, this.order_seed)


def parts_of(loader: Any) -> list[Any]:
    """A loader, its samplers and its data sets, one in the other."""
    ways = [chain(loader, "dataset"), chain(loader, "batch_sampler"), chain(loader, "sampler")]
    ways.append(chain(getattr(loader, "batch_sampler", None), "sampler"))
    return list({id(part): part for part in itertools.chain(*ways)}.values())


def plain_attributes(parts: Iterable[Any]) -> dict[str, Any]:
    """The numbers and words that the parts of a loader keep as attributes, private ones left out."""
    attributes = ((type(part).__name__, vars(part)) for part in parts if hasattr(part, "__dict__"))
    return {
        f"{kind}.{name}": value
        for kind, values in attributes
        for name, value in values.items()
        if isinstance(value, int | float | str) and not name.startswith("_")
    }


def told_of_memory(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Warn of attributes that a pass has changed, if there are any; returns whether there were."""
    changed = [name for name, value in before.items() if after.get(name, value) != value]
    for name in changed:
        logging.warning(
            f"{name} was {before[name]} and is {after[name]} after a pass: what a loader remembers is lost when a run "
            "is stopped and goes on; a method set_epoch(epoch) is told the number of the pass"
        )
    return bool(changed)


def _has_state(part: Any) -> bool:
    """Whether a loader or a part of it says where it is, and can be put back there."""
    return all(callable(getattr(part, name, None)) for name in ("state_dict", "load_state_dict"))


def _is_torchdatas(loader: Any) -> bool:
    return any(kind.__module__.startswith("torchdata.") for kind in type(loader).__mro__)


def _iterates_plainly(loader: DataLoader[Any]) -> bool:
    """Whether a `DataLoader` iterates as PyTorch's own does: nothing but how it is made is of its class's making."""
    kinds = (kind for kind in type(loader).__mro__ if kind not in DataLoader.__mro__)
    own = {name for kind in kinds if not kind.__module__.startswith("torchdata.") for name in vars(kind)}
    ways = {name for name, value in vars(DataLoader).items() if callable(value) or isinstance(value, property)}
    return not (own | set(vars(loader))) & ({name for name in ways if not name.startswith("__")} | {"__iter__"})


def _draws_at_once(sampler: Any) -> bool:
    """Whether a sampler is one of PyTorch's, or a list: all is drawn at the first batch, and its len() holds."""
    return isinstance(sampler, list | tuple | range) or type(sampler).__module__ == Sampler.__module__
