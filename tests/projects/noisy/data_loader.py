"""The points, fed in every way there is (`"loader"`), each varied by draws from torch, NumPy and `random`."""

import random

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from engine.data import TensorBatches
from tests.projects.points.data_loader import points


def vary(inputs):
    """Points with noise from each of the three global generators."""
    noise = torch.randn(inputs.shape) + float(np.random.normal()) + random.gauss(0, 1)
    return inputs + 0.1 * noise.to(inputs.device)


class Points(Dataset):
    """A map-style data set whose items are varied as they are fetched."""

    def __init__(self, split):
        self.inputs, self.labels = points(split)
        self.varied = split == "train"

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        inputs = torch.from_numpy(self.inputs[index])
        return vary(inputs) if self.varied else inputs, self.labels[index]


class Stream(IterableDataset):
    """A stream that knows no length."""

    def __iter__(self):
        for inputs, label in zip(*points("train"), strict=True):
            yield vary(torch.from_numpy(inputs)), label


def fetch_dataloader(types, data_dir, params):
    return {split: make(split, params) for split in types}


def make(split, params):
    if params.loader == "resident" or split != "train":
        varied = vary if split == "train" else None
        shuffle = split == "train"
        return TensorBatches(*points(split), batch_size=params.batch_size, shuffle=shuffle, transform=varied)
    if params.loader == "stream":
        return DataLoader(Stream(), batch_size=params.batch_size)
    workers = params.num_workers
    persistent = params.loader == "persistent"
    data = Points(split)
    return DataLoader(data, params.batch_size, shuffle=True, num_workers=workers, persistent_workers=persistent)
