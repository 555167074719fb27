"""The same split is known again, and another one told from it."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import train_test_split
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    random_split,
)

from engine.data import TensorBatches, fingerprint, shared_examples
from engine.randomness import seed_everything

DATA = TensorDataset(torch.arange(40.0), torch.arange(40))


def by_random_split():
    return [DataLoader(part, 4) for part in random_split(DATA, [30, 10])]


def by_split_of_a_split():
    part, _ = random_split(DATA, [36, 4])
    return [DataLoader(piece, 4) for piece in random_split(part, [26, 10])]


def by_samplers():
    order = torch.randperm(40).tolist()
    return [DataLoader(DATA, 4, sampler=SubsetRandomSampler(part)) for part in (order[:30], order[30:])]


def by_arrays():
    arrays = train_test_split(np.arange(40.0), test_size=10)
    return [DataLoader(TensorDataset(torch.tensor(array)), 4) for array in arrays]


def by_rows():
    order = torch.randperm(40)
    return [TensorBatches(*DATA.tensors, batch_size=4, rows=part) for part in (order[:30], order[30:])]


def by_names():
    names = [f"{number}.jpg" for number in torch.randperm(40).tolist()]
    return [TensorBatches(torch.zeros(len(p)), batch_size=4, names=p) for p in (names[:30], names[30:])]


@pytest.mark.parametrize("split", [by_random_split, by_split_of_a_split, by_samplers, by_arrays, by_rows, by_names])
def test_a_split_has_a_fingerprint_of_its_own(split):
    seed_everything(1)
    one = split()
    seed_everything(1)
    again = split()
    seed_everything(2)
    other = split()
    assert [fingerprint(loader) for loader in one] == [fingerprint(loader) for loader in again]
    assert len({fingerprint(loader) for loader in [*one, *other]}) == 4
    assert shared_examples(*one) == 0


@pytest.mark.parametrize("split", [by_random_split, by_split_of_a_split, by_samplers, by_rows])
def test_examples_in_two_splits_are_counted(split):
    seed_everything(1)
    train, _ = split()
    seed_everything(2)
    _, val = split()
    told = [set(torch.cat([batch[1] for batch in loader]).tolist()) for loader in (train, val)]
    assert shared_examples(train, val) == len(told[0] & told[1]) > 0


def test_equal_indices_into_different_data_are_not_the_same_examples():
    others = TensorDataset(torch.arange(40.0))
    assert shared_examples(*(DataLoader(Subset(data, range(9)), 4) for data in (DATA, others))) == 0
    assert shared_examples(*(TensorBatches(torch.zeros(9), batch_size=4) for _ in range(2))) == 0


def test_what_cannot_be_told_has_none():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(3))

    assert fingerprint(DataLoader(Stream(), 2)) is None
    assert fingerprint([1, 2]) is None
    assert fingerprint(DataLoader(Subset([1, 2, 3], [0, 2]), 2)) is not None
