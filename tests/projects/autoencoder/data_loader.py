"""Curves that have two degrees of freedom, and no labels."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from utils import Params

SIZES = {"train": 128, "val": 41, "test": 41}


def fetch_dataloader(types: Sequence[str], data_dir: str, params: Params) -> dict[str, DataLoader]:
    """Batches of one: (B, 12) curves."""
    return {
        split: DataLoader(TensorDataset(curves(split)), batch_size=params.batch_size, shuffle=split == "train")
        for split in types
    }


def curves(split: str) -> Tensor:
    """(N, 12) sums of two waves with some noise."""
    generator = np.random.default_rng(list(SIZES).index(split))
    waves = np.stack([np.sin(np.arange(12) / 2), np.cos(np.arange(12) / 2)])
    heights = generator.normal(size=(SIZES[split], 2))
    return torch.tensor(heights @ waves + generator.normal(scale=0.1, size=(SIZES[split], 12)), dtype=torch.float32)
