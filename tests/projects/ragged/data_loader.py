"""Points and their corners, in numbers that leave a last batch of one example, by three kinds of loaders."""

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from engine.data import TensorBatches

SIZES = {"train": 49, "val": 23, "test": 23}
CORNERS = np.array([[0, 1], [-1, -1], [1, -1]])


class Stream(IterableDataset):
    """The same points, one after the other, without a length."""

    def __init__(self, split):
        self.split = split

    def __iter__(self):
        yield from zip(*points(self.split), strict=True)


def fetch_dataloader(types, data_dir, params):
    return {split: batches(split, params) for split in types}


def batches(split, params):
    kind, tensors = getattr(params, "loader", "tensors"), points(split)
    if kind == "tensors":
        shuffle = split == "train" and getattr(params, "shuffle", False)
        loader = TensorBatches(*tensors, batch_size=params.batch_size, shuffle=shuffle)
        loader.names = [f"{split}_{index}" for index in range(SIZES[split])]
        return loader
    if kind == "stream":
        return DataLoader(Stream(split), params.batch_size)
    return DataLoader(TensorDataset(*tensors), params.batch_size, shuffle=True, num_workers=params.num_workers)


def points(split):
    generator = np.random.default_rng(list(SIZES).index(split))
    labels = generator.integers(len(CORNERS), size=SIZES[split])
    inputs = CORNERS[labels] + generator.normal(scale=0.7, size=(len(labels), 2))
    return torch.tensor(inputs, dtype=torch.float32), torch.tensor(labels)
