"""A part of a split is drawn evenly over the whole: the first files are all of the first classes."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from engine.data import TensorBatches, count_of, part_of

CLASSES, EACH = 20, 30
LABELS = torch.arange(CLASSES).repeat_interleave(EACH)  # in class order, as folders are read


def resident(**options):
    return TensorBatches(LABELS.float(), LABELS, batch_size=16, names=[f"{i}" for i in range(len(LABELS))], **options)


def loader(**options):
    made = DataLoader(TensorDataset(LABELS.float(), LABELS), 16, **options)
    made.names = [f"{i}" for i in range(len(LABELS))]
    return made


def in_batches(sampler=SequentialSampler(LABELS)):  # noqa: B008
    """A loader that was given its batches, not their size."""
    made = DataLoader(TensorDataset(LABELS.float(), LABELS), batch_sampler=BatchSampler(sampler, 16, drop_last=False))
    made.names = [f"{i}" for i in range(len(LABELS))]
    return made


@pytest.mark.parametrize("make", [resident, loader, in_batches])
@pytest.mark.parametrize("most", [1, 5])
def test_all_classes_are_in_it_as_far_as_there_is_room(make, most):
    batches = list(part := part_of(make(), most))
    labels = torch.cat([labels for _, labels in batches])
    assert (len(batches), len(labels), count_of(part), count_of(make())) == (most, 16 * most, 16 * most, 600)
    assert len(labels.unique()) == min(CLASSES, 16 * most)
    counts = np.bincount(labels, minlength=CLASSES)
    assert counts.max() - counts.min() <= 1
    assert [int(name) // EACH for name in part.names] == labels.tolist()  # names go with their examples
    assert len(set(part.names)) == len(labels)


@pytest.mark.parametrize("make", [resident, loader])
def test_where_there_is_no_more_it_is_the_whole(make):
    whole = make()
    assert part_of(whole, None) is part_of(whole, 38) is part_of(whole, 99) is whole


def test_some_rows_of_the_data_stay_rows_of_the_data():
    rows = torch.arange(300, 600)
    part = part_of(TensorBatches(LABELS.float(), LABELS, batch_size=16, rows=rows), 2)
    assert set(part.rows.tolist()) <= set(rows.tolist())
    assert part.rows.tolist() == part.members.tolist()


@pytest.mark.parametrize(
    "options", [{"shuffle": True}, {"sampler": WeightedRandomSampler(torch.ones(600), 600)}], ids=["shuffled", "own"]
)
def test_an_order_that_is_the_loaders_own_is_left_as_it_is_and_told(options, caplog):
    whole = loader(**options)
    assert part_of(whole, 2) is whole
    assert "the first 2 batches of an order of its loader's own" in caplog.text
    caplog.clear()
    assert part_of(whole, 38) is whole
    assert not caplog.text  # all of it


def test_a_sampler_that_does_not_say_how_long_it_is_is_left_as_it_is():
    class Endless(Sampler):
        def __iter__(self):
            return itertools.cycle(range(len(LABELS)))

    whole = loader(sampler=Endless())
    assert part_of(whole, 2) is whole


def test_of_a_stream_nobody_knows_how_long_it_is(caplog):
    assert part_of(iter([1, 2]), 1)
    assert "the first 1 batch of" in caplog.text
    assert count_of(iter([1, 2])) is None


def test_a_part_of_some_examples_in_batches_of_their_own_has_no_others():
    split = list(range(40, 90))
    whole = in_batches(SubsetRandomSampler(split))
    seen = torch.cat([labels for _, labels in part_of(whole, 2)])
    assert set(seen.tolist()) <= set(LABELS[split].tolist())
