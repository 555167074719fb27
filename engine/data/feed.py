"""The training batches of each epoch: the same ones in the same order, from any batch on, whenever they are asked for.

An epoch is a pass over the data, or a stretch of an endless walk through it, pass after pass. What is drawn at random,
the order of a pass and whatever a batch needs, follows from (seed, pass, batch); so no state of any generator is kept.
Only a loader with a state of its own goes on from that.
"""

import itertools
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from engine.data.one_pass import Batch, Pass
from engine.data.part import count_in, count_of, length_of
from engine.data.passes import is_sharded, passes_over
from engine.data.planned import PlannedPasses, TensorPasses
from engine.data.replayed import ReplayedPasses
from engine.data.shares import Share
from engine.data.stateful import StatefulPasses
from engine.errors import UserError
from engine.hyperparameters import Values
from engine.seeds import derive

MANY = 10_000  # batches of a stream, after which one may ask for its end
ENDLESS = 10  # times its len(), and a pass is taken for one that never ends


class Feed:
    """The batches of a loader, epoch by epoch.

    >>> feed = Feed(loader, seed=230)
    >>> for batch in feed.epoch(3, start=10): ...  # the fourth epoch, from its eleventh batch on

    With `max_batches`, each pass ends after so many, and they hold the same examples in every pass. An epoch is a pass,
    as long as it turns out, or `batches_per_epoch` batches, wherever in a pass the one before it ended. Of each batch
    comes what is this process's share, and `EMPTY` where it has none.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        seed: int,
        max_batches: int | None = None,
        batches_per_epoch: int | None = None,
        share: Share | None = None,
    ) -> None:
        self.seed = seed
        self.max_batches = max_batches
        self.batches_per_epoch = batches_per_epoch
        self.batches_per_pass = promised_length(loader, "train", max_batches)
        if batches_per_epoch is None and self.batches_per_pass is None:
            raise UserError(
                'the training batches have no len(); set "max_train_batches" or "steps_per_epoch" in params.json'
            )
        self._length = batches_per_epoch or self.batches_per_pass or 0
        passes_through = batches_per_epoch is None and self.batches_per_pass is not None
        self.count = count_in(loader, len(self)) if passes_through else None  # of examples in an epoch, where known
        self.first_batch: Any = None
        self.examples: int | None = None  # asked for in the latest batch, where that is known
        self.share = share or Share()
        self._passes = passes_over(loader, self.share)
        self.is_sharded = is_sharded(loader, self._passes)
        if self.is_sharded and self.share.count > 1:
            self.count = None
            self._length = self.share.processes.largest(self._length)
        has_length = length_of(loader) is not None
        self._length_said_by = "len() of the training batches" if has_length else '"max_train_batches"'
        self._told = False
        self._pass_number = 0  # of the latest one
        self._next_pass = 0
        self._walk: Iterator[Batch] = iter(())
        self._position = -1  # of the walk, in batches since the very first

    def __len__(self) -> int:
        """How many batches an epoch has; of passes, how many are promised."""
        return self._length

    def state_dict(self) -> Values:
        """Where a loader that keeps a state is, after the latest batch; of any other there is nothing to be kept."""
        state: Values = {}
        if isinstance(self._passes, StatefulPasses):
            state = {"pass": self._pass_number, "position": self._position, **self._passes.state_dict()}
        if not self.is_sharded:
            return state
        return {"shards": [state] if self.share.count == 1 else self.share.processes.gather(state)}

    def load_state_dict(self, state: Values) -> None:
        """Go on from there, when the epoch is asked for in which that was."""
        if self.is_sharded or "shards" in state:
            state = self._own(state)
        if state and isinstance(self._passes, StatefulPasses):
            self._passes.load_state_dict(state)
            self._pass_number, self._position = state["pass"], state["position"]
            self._walk = self._walk_through(state["pass"], state["batches"])

    def _own(self, state: Values) -> Values:
        """What was kept of this process's shard. Raises `UserError` if the data were shared out in another way."""
        shards = state.get("shards", [state])
        before, now = len(shards), self.share.count if self.is_sharded else 1
        if before != now:
            raise UserError(
                f"the training data share themselves out (is_sharded), and were among {before} processes when the run "
                f"began: each would have other examples in {now}; go on with as many as before, or --fresh starts over"
            )
        return shards[self.share.rank]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """The batches of one epoch (counted from 0), from batch `start` on."""
        batches = self._pass_at(epoch, start) if self.batches_per_epoch is None else self._stretch(epoch, start)
        for batch, examples in self.share.parts(batches, self.is_sharded):
            self.examples = examples
            if self.first_batch is None:
                self.first_batch = batch
            yield batch

    def _pass_at(self, number: int, start: int) -> Iterator[Batch]:
        """A whole pass; where it follows on those before it, after them."""
        if self._passes.follows_on and number != self._next_pass:
            for earlier in range(number):
                logging.info(f"Going through pass {earlier + 1} again: workers that live on depend on what they did")
                deque(self._pass(earlier, 0), maxlen=0)
        self._next_pass = number + 1
        yield from self._pass(number, start)

    def _stretch(self, epoch: int, start: int) -> Iterator[Batch]:
        """The next stretch of the walk through all passes."""
        length = self.batches_per_epoch or 0
        position = epoch * length + start
        if position != self._position:
            self._walk, self._position = self._walk_from(position), position
        for batch in itertools.islice(self._walk, length - start):
            self._position += 1
            yield batch

    def _walk_from(self, position: int) -> Iterator[Batch]:
        """All batches from a position on. Unless passes can be planned, or believed to be as long as they say, the way
        is walked again."""
        if not isinstance(self._passes, ReplayedPasses):
            return self._walk_through(*self._located(self._passes, position))
        if self._is_believed:
            return self._walk_through(*divmod(position, self.batches_per_pass or 1))
        return itertools.islice(self._walk_through(0, 0), position, None)

    def _located(self, passes: TensorPasses | PlannedPasses, position: int) -> tuple[int, int]:
        """In which pass a position lies, and at which batch."""
        for number in itertools.count():
            length = passes.count(self._this(number), position + 1)
            if self.max_batches is not None:
                length = min(length, self.max_batches)
            if length == 0 or position < length:
                break
            position -= length
        return number, position

    def _walk_through(self, number: int, start: int) -> Iterator[Batch]:
        """All batches from batch `start` of pass `number` on."""
        while True:
            yield from self._pass(number, start)
            number, start = number + 1, 0

    def _pass(self, number: int, start: int) -> Iterator[Batch]:
        """The batches of a pass from `start` on: all that the loader gives."""
        self._pass_number = number
        given, promised = start, self.batches_per_pass or 0
        left = None if self.max_batches is None else self.max_batches - start
        batches = itertools.islice(self._passes.run(self._this(number), start), left)
        for given, batch in enumerate(batches, start + 1):
            if promised and given == promised + 1:
                self._tell(f"pass {number + 1} goes on beyond them")
            if promised and given > promised * ENDLESS and not self.batches_per_epoch:
                said = f"{self._length_said_by} says {promised}"
                raise UserError(f'{said}, but a pass goes on and on; "steps_per_epoch" is for one without end')
            yield batch
        if given == 0:
            raise UserError(f"the training data gave no batch in pass {number + 1}; can it be iterated only once?")
        if given < promised:
            self._tell(f"pass {number + 1} gave {given}")

    def _this(self, number: int) -> Pass:
        order = 0 if self.max_batches else number
        return Pass(order, derive(self.seed, order), derive(self.seed, number, 1))

    @property
    def _is_believed(self) -> bool:
        """Whether where to go on follows from a length that the loader only says."""
        is_replayed = type(self._passes) is ReplayedPasses and not self._passes.follows_on
        return is_replayed and self.batches_per_epoch is not None and self.batches_per_pass is not None

    def _tell(self, what: str) -> None:
        """Say once that passes are of another length than promised."""
        said = f"{self._length_said_by} says {self.batches_per_pass}, but {what}"
        if self._is_believed:
            raise UserError(f'{said}; "steps_per_epoch" needs a len() that holds, or none at all')
        if not self._told and self.batches_per_epoch is None:
            logging.warning(f"{said}: all batches are trained on; a schedule goes by {self.batches_per_pass}")
        self._told = True


class SamePass:
    """A pass over a split that is the same each time, however many processes make it; what evaluation goes through.

    >>> batches = SamePass(loader, seed=230, split="val")
    >>> for batch in batches: ...
    """

    def __init__(self, loader: Iterable[Any], seed: int, split: str, share: Share | None = None) -> None:
        self.examples: int | None = None  # asked for in the latest batch, where that is known
        self.split = split
        self._most = promised_length(loader, split) or count_of(loader)  # where len() is lacking, batches of one
        self.count = None if self._most is None else count_in(loader, self._most)  # of examples, where known
        self.share = share or Share()
        self._passes = passes_over(loader, self.share)
        self._is_sharded = is_sharded(loader, self._passes)
        order_seed = derive(seed, split)  # what is made on the fly differs from what was trained on
        self._this = Pass(0, order_seed, derive(order_seed, 0, 1))
        self._begun: Iterator[Batch] | None = None
        if isinstance(self._passes, ReplayedPasses) and self._passes.workers == 0:
            self._begun = self._begin()  # its len() may not hold: told now, not after an epoch of training

    def __iter__(self) -> Iterator[Any]:
        batches, self._begun = self._begun or self._begin(), None
        for given, (batch, examples) in enumerate(self.share.parts(batches, self._is_sharded), start=1):
            self.examples = examples
            self._look_for_an_end(given)
            yield batch

    def _begin(self) -> Iterator[Batch]:
        """A pass whose first batch has been taken already. Raises `UserError` if there is none."""
        batches = self._passes.run(self._this)
        try:
            return itertools.chain([next(batches)], batches)
        except StopIteration:
            raise UserError(f"the {self.split} split gave no batch; can it be iterated only once?") from None

    @property
    def indices(self) -> Any:
        """Where the examples of the latest batch are in their data set, where that is known."""
        return getattr(self._passes, "indices", None)

    def _look_for_an_end(self, given: int) -> None:
        """Refuse a pass far longer than it can be; say of a stream how far it is, for nobody knows how long that is."""
        way_out = '"max_eval_batches" (of evaluate.py: --max_eval_batches) is for one without end'
        if self._most is None and given == MANY:
            logging.warning(f"{self.split} has no len(), and gave {given:,} batches so far; {way_out}")
        if self._most is not None and given > self._most * ENDLESS:
            raise UserError(
                f"a pass over {self.split} goes on and on: {given} batches, where {self._most} are the most to come; "
                f"{way_out}"
            )


def promised_length(loader: Any, split: str, max_batches: int | None = None) -> int | None:
    """How many batches a loader says that a pass has, at most `max_batches`, which also stand in for a stream's."""
    length = length_of(loader)
    if length is None:
        return max_batches
    if length == 0:
        raise UserError(f"the {split} split holds no batch; is batch_size larger than the data, with drop_last?")
    return length if max_batches is None else min(length, max_batches)
