"""Pictures of waves, and the same at half their size."""

from collections.abc import Sequence

import numpy as np

from engine.data import TensorBatches
from utils import Params

SIZES = {"train": 64, "val": 21, "test": 21}
SIDE = 16


def fetch_dataloader(types: Sequence[str], data_dir: str, params: Params) -> dict[str, TensorBatches]:
    """Batches of (B, 1, 8, 8) small pictures and (B, 1, 16, 16) large ones, from 0 to 1."""
    return {
        split: TensorBatches(*pictures(split), batch_size=params.batch_size, shuffle=split == "train")
        for split in types
    }


def pictures(split: str) -> tuple[np.ndarray, np.ndarray]:
    """All pictures of a split, small and large; each pixel of a small one is the mean of four."""
    generator = np.random.default_rng(list(SIZES).index(split))
    x, y = generator.uniform(-1.5, 1.5, size=(2, SIZES[split], 1, 1, 1))
    phase = generator.uniform(0, 2 * np.pi, size=x.shape)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    large = (1 + np.sin(x * columns + y * rows + phase)) / 2  # (N, 1, 16, 16)
    small = large.reshape(-1, 1, SIDE // 2, 2, SIDE // 2, 2).mean(axis=(3, 5))
    return small.astype(np.float32), large.astype(np.float32)
