"""Passes that are gone through from the first batch on: what may be done with anything that iterates."""

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from engine.data.one_pass import Batch, Pass, begin_pass, parts_of, plain_attributes, told_of_memory
from engine.data.shares import Share
from engine.data.workers import led, started
from engine.nested import tensors_in
from engine.randomness import seed_everything
from engine.seeds import derive


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
