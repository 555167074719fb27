"""Images that mean nothing, resident on the device, or in memory (`"in_memory": true`), whose batches are moved."""

from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from engine.data import TensorBatches
from engine.hyperparameters import Params


def images(count: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise (N, 3, side, side) and its labels (N,), the same each time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, side, side, generator=generator), torch.randint(10, (count,), generator=generator)


def fetch_dataloader(types: list[str], data_dir: str, params: Params) -> dict[str, Any]:
    """The batches of each split: the same images in both."""
    inputs, labels = images(params.num_images, params.side)
    if not params.in_memory:
        return {name: TensorBatches(inputs, labels, batch_size=params.batch_size, shuffle=True) for name in types}
    data = TensorDataset(inputs, labels)
    sampler = BatchSampler(RandomSampler(data), params.batch_size, drop_last=False)  # a batch by one index operation
    return {name: DataLoader(data, sampler=sampler, batch_size=None) for name in types}
