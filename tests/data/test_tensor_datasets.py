"""A `TensorDataset` in a plain `DataLoader` yields what PyTorch makes of it item by item, in a fraction of the time."""

import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader, RandomSampler, Sampler, Subset, TensorDataset, random_split

from engine.data import Feed
from engine.seeds import derive
from tests.support.folders import same

COUNT = 23


def tensors(seed=0):
    """Images, labels and floating-point numbers for each example."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (COUNT, 3, 4, 5), dtype=torch.uint8, generator=generator)
    return images, torch.arange(COUNT), torch.rand(COUNT, 2, generator=generator)


class Doubled(TensorDataset):
    """Items of its own making."""

    def __getitem__(self, index):
        return [2 * part for part in super().__getitem__(index)]


class DoubledHalf(Subset):
    """A part of its own making, asked for item by item or for all of a batch."""

    def __getitem__(self, index):
        return [2 * part for part in super().__getitem__(index)]

    def __getitems__(self, indices):
        return [self[index] for index in indices]


class Units(torch.Tensor):
    """A kind of tensor that makes its items itself."""

    def __getitem__(self, index):
        return self.as_subclass(torch.Tensor)[index] + (0 if isinstance(index, torch.Tensor) else 1)


class Indices(Sampler):
    """The first examples by an index of this kind, and the last by one that counts from the end."""

    def __init__(self, kind):
        self.kind = kind

    def __len__(self):
        return 6

    def __iter__(self):
        return map(self.kind, [3, 1, 4, 0, 5, -1])


def rows_from(number):
    return slice(number % COUNT - 2, number % COUNT) if number > 1 or number < 0 else slice(0, 2)


def only_labels(items):
    return torch.stack([item[1] for item in items])


def shuffled(dataset, batch_size):
    """A loader whose order is drawn from a generator of its sampler's, which a loop in plain PyTorch can seed."""
    return DataLoader(dataset, batch_size, sampler=RandomSampler(dataset, generator=torch.Generator()))


def halves():
    return random_split(TensorDataset(*tensors()), [11, 12], torch.Generator().manual_seed(1))


GATHERED = {
    "plain": lambda: shuffled(TensorDataset(*tensors()), 4),
    "in order": lambda: DataLoader(TensorDataset(*tensors()), 4, drop_last=True),
    "one of two parts": lambda: shuffled(halves()[0], 4),
    "a part of a part": lambda: shuffled(Subset(halves()[0], [7, 3, 0, 7]), 3),
    "a part by an array": lambda: DataLoader(Subset(TensorDataset(*tensors()), np.arange(9, 3, -1)), 4),
    "indices of NumPy, one from the end": lambda: DataLoader(TensorDataset(*tensors()), 4, sampler=Indices(np.int64)),
    "numbers to be learned": lambda: shuffled(TensorDataset(tensors()[2].requires_grad_()), 4),
    "one tensor": lambda: shuffled(TensorDataset(tensors()[0]), 4),
}
OTHERS = {
    "its own items": lambda: shuffled(Doubled(*tensors()), 4),
    "its own part": lambda: shuffled(DoubledHalf(TensorDataset(*tensors()), range(9)), 4),
    "its own collate_fn": lambda: DataLoader(TensorDataset(*tensors()), 4, collate_fn=only_labels),
    "no batches": lambda: shuffled(TensorDataset(*tensors()), None),
    "a kind of tensor": lambda: DataLoader(TensorDataset(tensors()[2].as_subclass(Units)), 4),
    "another layout": lambda: DataLoader(TensorDataset(tensors()[0].permute(0, 3, 1, 2)), 4),
    "channels last": lambda: DataLoader(TensorDataset(tensors()[0].to(memory_format=torch.channels_last)), 4),
    "indices that are tensors": lambda: DataLoader(TensorDataset(*tensors()), 4, sampler=Indices(torch.tensor)),
    "indices of several rows": lambda: DataLoader(TensorDataset(*tensors()), 2, sampler=Indices(rows_from)),
    "a part by a tensor": lambda: DataLoader(Subset(TensorDataset(*tensors()), torch.arange(9)), 4),
}


def plain_epoch(loader, epoch):
    """The batches of an epoch as a loop in plain PyTorch gets them."""
    if isinstance(loader.sampler, RandomSampler):
        loader.sampler.generator.manual_seed(derive(230, epoch))
    return list(loader)


def forms(batch):
    """What a batch is beside its numbers."""
    return type(batch), [(type(tensor), tensor.stride(), tensor.requires_grad) for tensor in batch]


@pytest.mark.parametrize("kind", [*GATHERED, *OTHERS])
def test_batches_are_those_of_plain_pytorch_to_the_bit_and_to_the_stride(kind):
    make = (GATHERED | OTHERS)[kind]
    feed, plain = Feed(make(), 230), make()
    for epoch in range(2):
        batches, expected = list(feed.epoch(epoch)), plain_epoch(plain, epoch)
        assert same(batches, expected)
        assert [forms(batch) for batch in batches] == [forms(batch) for batch in expected]


class Operations(TorchFunctionMode):
    """Counts how often tensors are asked for some of their rows."""

    taken = 0

    def __torch_function__(self, function, types, arguments=(), options=None):
        self.taken += function is torch.Tensor.__getitem__
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("kind", GATHERED)
def test_a_batch_is_one_operation_for_each_tensor_whatever_its_size(kind):
    feed = Feed(GATHERED[kind](), 230)
    with Operations() as operations:
        batches = list(feed.epoch(0))
    assert operations.taken == sum(map(len, batches))


@pytest.mark.parametrize("kind", ["plain", "a part of a part"])
def test_the_number_of_workers_does_not_show(kind):
    def seen(num_workers):  # with what a network would draw after each batch
        loader = GATHERED[kind]()
        helped = DataLoader(loader.dataset, 4, shuffle=True, num_workers=num_workers)
        return [(batch, torch.rand(1), np.random.random(), random.random()) for batch in Feed(helped, 230).epoch(1)]

    assert same(seen(2), seen(0))


def test_a_batch_is_nobody_elses_memory():
    dataset = TensorDataset(*tensors())
    kept = [tensor.clone() for tensor in dataset.tensors]
    batches = list(Feed(DataLoader(dataset, 4), 230).epoch(0))
    for one, other in pairwise(batches):
        assert one[2].data_ptr() != other[2].data_ptr()
    for batch in batches:
        batch[2].zero_()
    assert same(list(dataset.tensors), kept)


def test_tensors_that_a_task_exchanges_between_two_passes_are_those_of_the_next():
    dataset = TensorDataset(torch.arange(8))
    feed = Feed(DataLoader(dataset, 4), 230)
    assert [batch[0].tolist() for batch in feed.epoch(0)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    dataset.tensors = (torch.arange(8) * 10,)
    assert [batch[0].tolist() for batch in feed.epoch(1)] == [[0, 10, 20, 30], [40, 50, 60, 70]]


def test_an_index_beyond_the_data_is_pytorchs_own_error():
    class Beyond(Indices):
        def __iter__(self):
            return iter([0, COUNT])

    with pytest.raises(IndexError):
        list(Feed(DataLoader(TensorDataset(*tensors()), 2, sampler=Beyond(int)), 230).epoch(0))
