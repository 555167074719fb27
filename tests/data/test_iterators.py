"""Loaders in the manner of the course's text example: as many batches are asked for as its scripts did."""

import itertools
from types import SimpleNamespace

import pytest

from engine.data import Feed, SamePass, fetch_iterators


class Loader:
    """A class of 2018, whose iterators end in various ways, or not at all."""

    def __init__(self, data_dir, params):
        pass

    def load_data(self, types, data_dir):
        return {split: {"size": 9} for split in types}

    def data_iterator(self, data, params, shuffle=False):
        for number in itertools.count():
            if number == 5 and params.then == "stops":
                return
            if number == 5 and params.then == "raises":
                raise IndexError("list index out of range")
            yield number


@pytest.mark.parametrize("then", ["stops", "raises", "goes on"])
def test_no_more_batches_are_asked_for_than_the_scripts_of_2018_did(then):
    params = SimpleNamespace(batch_size=2, then=then)
    loaders = fetch_iterators(Loader, ["train", "val"], "none", params)
    assert (params.train_size, params.val_size) == (9, 9)
    feed = Feed(loaders["train"], 230)
    for epoch in range(2):
        assert list(feed.epoch(epoch)) == list(range((9 + 1) // 2))
    assert list(SamePass(loaders["val"], 230, "val")) == list(range(5))
