"""Passes over loaders that tell their state, and are put back by it to where they were."""

import itertools
import logging
from collections.abc import Iterator
from typing import Any

from engine.data.one_pass import Batch, Pass, begin_pass
from engine.data.replayed import ReplayedPasses
from engine.data.shares import Share
from engine.data.workers import started
from engine.errors import UserError
from engine.hyperparameters import Values


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


def _is_torchdatas(loader: Any) -> bool:
    return any(kind.__module__.startswith("torchdata.") for kind in type(loader).__mro__)
