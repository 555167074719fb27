"""A loader with `state_dict` and `load_state_dict` is put back to where it was, in constant time and to the bit."""

import functools
import importlib.util
import io
import json
import signal
import sys

import pytest
import torch
from torch.utils.data import DataLoader

from engine.data import Feed
from engine.errors import UserError
from tests.projects.stateful.data_loader import KINDS, ByHand, Points, Silent, Stream, torchdatas
from tests.support import faults, scripts
from tests.support.folders import same, same_results

SIZE, BATCHES = 30, 7  # 200 points
needs_torchdata = pytest.mark.skipif(importlib.util.find_spec("torchdata") is None, reason="pip install torchdata")


def kinds(*names):
    """Loaders by name; torchdata's only where it is there."""
    return [name if name.startswith("by hand") else pytest.param(name, marks=needs_torchdata) for name in names]


LIVE_ON = "stream of two workers that live on"
every_kind = pytest.mark.parametrize("kind", kinds(*(kind for kind in KINDS if "workers" not in kind)))
MORE = 50  # batches than a pass has: what a stream is given in place of a len()
REMEMBER = kinds("by hand", "by hand, lasting", LIVE_ON)


def feed_of(kind, **options):
    return Feed(KINDS[kind](SIZE), 230, **options)


def whole_passes(kind):
    return feed_of(kind, max_batches=None if kind.startswith("by hand") else MORE)


def through_a_file(state):
    """What a checkpoint gives back."""
    file = io.BytesIO()
    torch.save(state, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


def taken(feed, epochs, epoch, start):
    """The batches of the first epochs, and the state after batch `start` of `epoch`, whose others are not yet taken."""
    batches, state = [], None
    for number in range(epochs):
        here = feed.epoch(number)
        batches.append([next(here) for _ in range(start)] if number == epoch else [])
        if number == epoch:
            state = through_a_file(feed.state_dict())
        batches[-1].extend(here)
    return batches, state


PLACES = {"in the first epoch": (0, 3), "in a later one": (1, 2), "after the last batch of an epoch": (1, BATCHES)}


@pytest.mark.parametrize("kind", kinds(*(kind for kind in KINDS if kind != LIVE_ON)))
@pytest.mark.parametrize("place", PLACES)
def test_a_run_goes_on_with_the_batches_that_would_have_come(kind, place):
    epoch, start = PLACES[place]
    batches, state = taken(whole_passes(kind), 3, epoch, start)
    again = whole_passes(kind)
    again.load_state_dict(state)
    assert same(list(again.epoch(epoch, start)), batches[epoch][start:])
    for later in range(epoch + 1, 3):
        assert same(list(again.epoch(later)), batches[later])


@pytest.mark.parametrize("kind", REMEMBER)
@pytest.mark.parametrize("in_validation", [False, True], ids=["after validation", "in validation"])
def test_so_it_does_between_two_epochs_with_what_the_loader_remembers(kind, in_validation):
    feed = whole_passes(kind)
    count = len(list(feed.epoch(0)))
    state = through_a_file(feed.state_dict())
    expected = list(feed.epoch(1))
    again = whole_passes(kind)
    again.load_state_dict(state)
    if in_validation:
        assert list(again.epoch(0, count)) == []
    assert same(list(again.epoch(1)), expected)
    assert not same(list(whole_passes(kind).epoch(1)), expected)  # it does remember something


@pytest.mark.parametrize("kind", kinds("by hand", "stream", "stream of two workers"))
@pytest.mark.parametrize("start", [2, 5], ids=["in a pass", "at the end of one"])
def test_so_it_does_in_a_pass_that_is_cut_off(kind, start):
    batches, state = taken(feed_of(kind, max_batches=5), 2, 0, start)
    again = feed_of(kind, max_batches=5)
    again.load_state_dict(state)
    assert same(list(again.epoch(0, start)), batches[0][start:])


@needs_torchdata
def test_after_a_pass_that_was_cut_off_another_one_begins(caplog):
    batches, state = taken(feed_of("stream", max_batches=5), 2, 0, 5)
    again = feed_of("stream", max_batches=5)
    again.load_state_dict(state)
    assert same(list(again.epoch(1)), batches[1])
    assert "Each pass of a StatefulDataLoader is cut off: what it remembers" in caplog.text


@every_kind
@pytest.mark.parametrize("place", [(0, 2), (1, 1), (1, 4), (2, 0)], ids=str)
def test_so_it_does_in_stretches_of_an_endless_walk(kind, place):
    epoch, start = place
    batches, state = taken(feed_of(kind, batches_per_epoch=5), 5, epoch, start)
    again = feed_of(kind, batches_per_epoch=5)
    again.load_state_dict(state)
    assert same(list(again.epoch(epoch, start)), batches[epoch][start:])
    assert same([list(again.epoch(later)) for later in range(epoch + 1, 5)], batches[epoch + 1 :])


def test_so_it_does_when_it_is_stopped_again_and_again():
    walk = [list(feed.epoch(epoch)) for feed in [feed_of("by hand", batches_per_epoch=10)] for epoch in range(4)]
    state, batches = {}, []
    for stop in range(0, 40, 3):  # within passes, at their ends, and at those of epochs
        feed = feed_of("by hand", batches_per_epoch=10)
        feed.load_state_dict(through_a_file(state))
        for place in range(stop, min(stop + 3, 40)):
            if place % 10 == 0 or place == stop:
                here = feed.epoch(place // 10, place % 10)
            batches.append(next(here))
        state = feed.state_dict()
    assert same(batches, [batch for epoch in walk for batch in epoch])


class Miscounting(ByHand):
    """Says that it has more batches than it gives."""

    def __len__(self):
        return BATCHES + 3


def test_where_it_is_does_not_follow_from_what_its_length_says():
    batches, state = taken(Feed(Miscounting(SIZE), 230, batches_per_epoch=5), 4, 2, 1)
    again = Feed(Miscounting(SIZE), 230, batches_per_epoch=5)
    again.load_state_dict(state)
    assert same([list(again.epoch(2, 1)), list(again.epoch(3))], [batches[2][1:], batches[3]])


def test_no_batch_is_made_again_on_the_way():
    state = taken(Feed(ByHand(2), 230), 1, 0, 90)[1]
    loader = ByHand(2)
    feed = Feed(loader, 230)
    feed.load_state_dict(state)
    next(feed.epoch(0, 90))
    assert loader.made == 1


def test_a_run_may_be_stopped_and_gone_on_with_before_the_first_batch_is_taken_again():
    """As by a signal in validation, twice: between, the loader has not been touched."""
    batches, state = taken(whole_passes("by hand"), 3, 1, 4)
    idle = whole_passes("by hand")
    idle.load_state_dict(state)
    again = whole_passes("by hand")
    again.load_state_dict(through_a_file(idle.state_dict()))
    assert same(list(again.epoch(1, 4)), batches[1][4:])


def test_without_a_state_in_the_checkpoint_the_way_is_gone_again(caplog):
    batches, _ = taken(whole_passes("by hand"), 1, 0, 3)
    caplog.set_level("INFO")
    assert same(list(whole_passes("by hand").epoch(0, 3)), batches[0][3:])
    assert "Going through 3 batches of a ByHand again" in caplog.text


def test_what_it_remembers_is_no_matter_for_a_warning(caplog):
    feed = whole_passes("by hand")
    list(feed.epoch(0)), list(feed.epoch(1))
    assert "after a pass" not in caplog.text


def test_other_loaders_have_no_state_in_the_checkpoint():
    assert Feed(DataLoader(Points(), 30), 230).state_dict() == {}


# torchdata's


@needs_torchdata
@pytest.mark.parametrize("num_workers", [0, 2])
def test_over_a_map_style_data_set_it_is_planned_like_pytorchs_own(num_workers):
    loader = torchdatas(Points(), SIZE, shuffle=True, num_workers=num_workers)
    feed = Feed(loader, 230)
    assert feed.state_dict() == {}
    batches = list(feed.epoch(0))
    none = Feed(torchdatas(Points(), SIZE, shuffle=True), 230)
    assert same(list(none.epoch(0)), batches)
    labels = torch.cat([batch[1] for batch in batches])
    assert torch.equal(labels.sort().values, torch.tensor(Points().labels).sort().values)


@needs_torchdata
def test_over_a_stream_without_a_state_the_way_is_gone_again(caplog):
    caplog.set_level("INFO")
    feed = Feed(torchdatas(Silent(), SIZE), 230, MORE)
    assert feed.state_dict() == {}
    list(feed.epoch(0, 3))
    assert "Going through 3 batches of a StatefulDataLoader again" in caplog.text


@needs_torchdata
def test_what_workers_draw_is_told(caplog):
    _, state = taken(whole_passes("stream of two workers"), 1, 0, 2)
    feed = whole_passes("stream of two workers")
    feed.load_state_dict(state)
    list(feed.epoch(0, 2))
    assert "What its 2 workers draw at random is as before only if its state holds it" in caplog.text


@needs_torchdata
def test_the_state_of_other_workers_is_refused_in_one_line():
    _, state = taken(whole_passes("stream of two workers"), 1, 0, 2)
    feed = Feed(torchdatas(Stream(), SIZE, num_workers=3), 230, MORE)
    feed.load_state_dict(state)
    with pytest.raises(UserError, match='with 3 workers cannot go on from the state of one with 2; set "num_workers"'):
        next(feed.epoch(0, 2))


class Forgetful(ByHand):
    """Knows another state than the one it gave."""

    def load_state_dict(self, state):
        raise KeyError("shard")


def test_a_state_that_is_not_taken_back_is_told_in_one_line():
    _, state = taken(whole_passes("by hand"), 1, 0, 2)
    feed = Feed(Forgetful(SIZE), 230)
    feed.load_state_dict(state)
    with pytest.raises(UserError, match=r"the Forgetful does not take back the state .*\(KeyError: 'shard'\)"):
        next(feed.epoch(0, 2))


# Whole runs


PARAMS = {"task": "tests.projects.stateful", "data_dir": "none", "batch_size": SIZE, "learning_rate": 0.01}
PARAMS |= {"num_epochs": 3, "save_steps": 2}


def train_in(folder, kind, before=faults.nothing):
    folder.mkdir(exist_ok=True)
    (folder / "params.json").write_text(
        json.dumps(PARAMS | {"kind": kind} | ({} if kind == "by hand" else {"max_train_batches": MORE}))
    )
    return scripts.run("train", "--model_dir", folder, before=before, output=folder.parent).status


@pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by signals")
@pytest.mark.parametrize("kind", kinds("by hand", "stream", "stream of two workers"))
def test_a_run_that_is_killed_ends_with_the_bits_of_one_that_is_not(tmp_path, kind):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train_in(whole, kind) == 0
    for batch in (BATCHES + 4, 3):  # in the second epoch, and again
        die = functools.partial(faults.act_at_batch, batch, faults.die)
        assert train_in(killed, kind, die) == -signal.SIGKILL
    stop = functools.partial(faults.act_at_batch, 2, functools.partial(faults.signal_self, signal.SIGTERM))
    assert train_in(killed, kind, stop) == 128 + signal.SIGTERM
    validating = functools.partial(
        faults.act_at_batch, 1, functools.partial(faults.signal_self, signal.SIGTERM), training=False
    )
    assert train_in(killed, kind, validating) == 128 + signal.SIGTERM
    assert train_in(killed, kind) == 0
    assert "Put the" in (killed / "train.log").read_text()
    assert same_results(killed, whole)
