"""Loaders of every kind over 23 numbers, each beside a noise that is drawn as it is fetched."""

import itertools

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    get_worker_info,
)

COUNT = 23


class Numbers(Dataset):
    """Each item is its index and a noise."""

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return torch.tensor(int(index)), torch.rand(1) + np.random.random()


class Stream(IterableDataset):
    """The same one after the other; workers share them out."""

    def __iter__(self):
        worker = get_worker_info()
        numbers = range(COUNT) if worker is None else range(worker.id, COUNT, worker.num_workers)
        return ((torch.tensor(number), torch.rand(1)) for number in numbers)


class CountedStream(Stream):
    """A stream that says how many there are."""

    def __len__(self):
        return COUNT


class HardOnes(Sampler):
    """Every third example twice, in an order that follows from the epoch it is told."""

    def __init__(self):
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return 16

    def __iter__(self):
        return iter(np.random.default_rng(self.epoch).permutation([*range(0, COUNT, 3)] * 2).tolist())


class Buckets(Sampler):
    """Batches of about as many tokens each, an example being as long as its number; their number is a guess."""

    def __len__(self):
        return 4

    def __iter__(self):
        batch = []
        for number in torch.randperm(COUNT).tolist():
            if batch and sum(batch) + number > 30:
                yield batch
                batch = []
            batch.append(number)
        yield batch


class Endless(Sampler):
    """One index after the other, in an order without an end."""

    def __init__(self):
        self.generator = np.random.default_rng()

    def __iter__(self):
        while True:
            yield int(self.generator.integers(COUNT))


class DrawsAsItGoes(Sampler):
    """Each index drawn from a global generator when it is asked for, between what items and the network draw."""

    def __len__(self):
        return COUNT

    def __iter__(self):
        return (int(np.random.randint(COUNT)) for _ in range(COUNT))


class Cutting(DataLoader):
    """Leaves out each batch with the number 7 in it, and gives each other one twice."""

    def __iter__(self):
        for batch in super().__iter__():
            if 7 not in batch[0].tolist():
                yield batch
                yield batch


class Getting(DataLoader):
    """The same by the other way in."""

    def _get_iterator(self):
        return itertools.islice(super()._get_iterator(), 2)


class Batches:
    """Lists of numbers in an order of their own."""

    def __len__(self):
        return 6

    def __iter__(self):
        order = np.random.permutation(COUNT)
        return ((torch.tensor(order[start : start + 4]), torch.rand(1)) for start in range(0, COUNT, 4))


def ragged(items):
    """A batch of a list of tensors."""
    return [item[0][None] for item in items], [item[1] for item in items]


def weighted():
    return WeightedRandomSampler([1.0] * 5 + [0.1] * 18, COUNT, generator=torch.Generator())


def shuffled():
    return RandomSampler(range(COUNT), generator=torch.Generator())


def half():
    return SubsetRandomSampler(range(0, COUNT, 2), generator=torch.Generator())


KINDS = {
    "plain": lambda n: DataLoader(Numbers(), 4, shuffle=True, num_workers=n),
    "last batch dropped": lambda n: DataLoader(Numbers(), 4, sampler=shuffled(), drop_last=True, num_workers=n),
    "half of the data": lambda n: DataLoader(Numbers(), 4, sampler=half(), num_workers=n),
    "own sampler": lambda n: DataLoader(Numbers(), 4, sampler=HardOnes(), num_workers=n),
    "batch sampler": lambda n: DataLoader(
        Numbers(), batch_sampler=BatchSampler(RandomSampler(Numbers()), 4, False), num_workers=n
    ),
    "buckets": lambda n: DataLoader(Numbers(), batch_sampler=Buckets(), num_workers=n),
    "list of batches": lambda n: DataLoader(Numbers(), batch_sampler=[[0, 1], [2], [3, 4, 5]], num_workers=n),
    "weighted": lambda n: DataLoader(Numbers(), 4, sampler=weighted(), num_workers=n),
    "lists of tensors": lambda n: DataLoader(Numbers(), 4, shuffle=True, collate_fn=ragged, num_workers=n),
    "own __iter__": lambda n: Cutting(Numbers(), 4, shuffle=True, generator=torch.Generator(), num_workers=n),
    "own _get_iterator": lambda n: Getting(Numbers(), 4, num_workers=n),
    "stream": lambda n: DataLoader(Stream(), 4, num_workers=n),
    "stream with len": lambda n: DataLoader(CountedStream(), 4, num_workers=n),
    "stream with len, last batch dropped": lambda n: DataLoader(CountedStream(), 4, drop_last=True, num_workers=n),
    "stream whose workers live on": lambda n: DataLoader(Stream(), 4, num_workers=n, persistent_workers=n > 0),
    "draws as it goes": lambda n: DataLoader(Numbers(), 4, sampler=DrawsAsItGoes(), num_workers=n),
    "endless": lambda n: DataLoader(Numbers(), 4, sampler=Endless(), num_workers=n),
    "own batches": lambda n: Batches(),
}
WITHOUT_LENGTH = ("stream", "stream whose workers live on", "endless")


def fetch_dataloader(types, data_dir, params):
    return {split: KINDS[params.kind if split == "train" else "plain"](params.num_workers) for split in types}
