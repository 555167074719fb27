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

from engine.data import TensorBatches, fingerprint, may_share, shared_examples, sketch
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


def by_resident_arrays():
    order = torch.randperm(40)
    return [TensorBatches(*(t[part] for t in DATA.tensors), batch_size=4) for part in (order[:30], order[30:])]


def by_names():
    names = [f"{number}.jpg" for number in torch.randperm(40).tolist()]
    return [TensorBatches(torch.zeros(len(p)), batch_size=4, names=p) for p in (names[:30], names[30:])]


EVERY_WAY = [by_random_split, by_split_of_a_split, by_samplers, by_arrays, by_rows, by_resident_arrays, by_names]


@pytest.mark.parametrize("split", EVERY_WAY)
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


IN_ORDER = {
    "indices": lambda rows: DataLoader(Subset(DATA, rows), 4),
    "arrays": lambda rows: DataLoader(TensorDataset(DATA.tensors[0][rows]), 4),
    "rows": lambda rows: TensorBatches(*DATA.tensors, batch_size=4, rows=rows),
    "all rows": lambda rows: TensorBatches(DATA.tensors[1][:9], batch_size=4, rows=rows),
    "names": lambda rows: TensorBatches(torch.zeros(len(rows)), batch_size=4, names=rows),
}


@pytest.mark.parametrize("kind", IN_ORDER)
def test_the_same_examples_in_another_order_are_told_from_those(kind):
    one, other = ([*range(9)], [*range(8, -1, -1)])
    assert fingerprint(IN_ORDER[kind](one)) == fingerprint(IN_ORDER[kind](one))
    assert fingerprint(IN_ORDER[kind](one)) != fingerprint(IN_ORDER[kind](other))


def test_a_sampler_that_draws_its_own_order_is_told_by_what_it_draws_from():
    one, other = (DataLoader(DATA, 4, sampler=SubsetRandomSampler(rows)) for rows in ([1, 2, 3], [3, 2, 1]))
    assert fingerprint(one) == fingerprint(other)


def test_one_data_set_in_two_splits_is_counted_whole():
    whole, part = DataLoader(DATA, 4), DataLoader(Subset(DATA, [3, 5, 7]), 4)
    assert (shared_examples(whole, DataLoader(DATA, 8)), shared_examples(whole, part)) == (40, 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.complex64, torch.bool, torch.uint16])
def test_tensors_of_any_type_tell_their_content(dtype):
    one, other = (torch.arange(6).remainder(number).to(dtype).reshape(3, 2) for number in (2, 5))
    told = [fingerprint(DataLoader(TensorDataset(tensor), 2)) for tensor in (one, one.clone(), other[[1, 2, 0]])]
    assert told[0] == told[1] != told[2]
    assert may_share(DataLoader(TensorDataset(one[:1]), 2), sketch(DataLoader(TensorDataset(one), 2)))


def test_the_last_bits_of_a_normalisation_are_no_other_examples():
    inputs, labels = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 7
    elsewhere = torch.nextafter(inputs, torch.tensor(9.0))
    told = [fingerprint(DataLoader(TensorDataset(numbers, labels), 4)) for numbers in (inputs, elsewhere)]
    assert told[0] == told[1]


def test_what_a_data_set_is_asked_by_may_be_names():
    data = {"a": 1, "b": 2, "c": 3}
    one, other = (DataLoader(Subset(data, keys), 2) for keys in (["a", "c"], ["b"]))
    assert fingerprint(one) != fingerprint(other)
    assert (may_share(one, sketch(other)), may_share(one, sketch(one))) == (False, True)


# Whether a split may have examples of another, of which only a sketch was kept


def members(loader):
    return set(getattr(loader, "names", None) or torch.cat([batch[0] for batch in loader]).tolist())


@pytest.mark.parametrize("split", EVERY_WAY)
def test_a_sketch_tells_splits_that_share_examples_from_those_that_do_not(split):
    for seed in range(5):
        seed_everything(seed)
        train, val = split()
        seed_everything(seed + 100)
        _, anew = split()
        assert members(train) & members(anew)
        assert may_share(anew, sketch(train))
        assert not may_share(val, sketch(train))


def test_of_many_examples_a_sketch_keeps_few_and_tells_all_the_same():
    data = range(300_000)
    order = torch.randperm(300_000, generator=torch.Generator().manual_seed(0))
    train = DataLoader(Subset(data, order[:200_000].tolist()), 100)
    kept = sketch(train)
    assert kept.nbytes <= 2**15
    for start in range(0, 300_000, 10_000):  # 136 of the sketch are expected among each ten thousand of its own
        others = DataLoader(Subset(data, order[start : start + 10_000].tolist()), 100)
        assert may_share(others, kept) == (start < 200_000)


def test_equal_places_in_data_of_another_kind_or_size_are_not_alike():
    kept = sketch(DataLoader(Subset(DATA, range(9)), 4))
    assert not may_share(DataLoader(Subset(range(40), range(9)), 4), kept)
    assert not may_share(DataLoader(Subset(TensorDataset(torch.arange(50.0)), range(9)), 4), kept)


def test_tensors_without_numbers_or_in_other_layouts_are_told_by_nothing():
    sparse, empty = TensorDataset(torch.eye(4).to_sparse()), TensorDataset(torch.zeros(4, 0))
    assert fingerprint(DataLoader(sparse, 2)) is None
    assert sketch(DataLoader(sparse, 2)) is sketch(DataLoader(empty, 2)) is None
