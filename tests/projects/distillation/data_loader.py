"""Points in the plane; the label says how far out they lie, in rings."""

from collections.abc import Sequence

import numpy as np

from engine.data import TensorBatches
from utils import Params

SIZES = {"train": 300, "val": 80, "test": 80}
RINGS = 3


def fetch_dataloader(types: Sequence[str], data_dir: str, params: Params) -> dict[str, TensorBatches]:
    """Batches of (B, 2) points and (B,) rings."""
    return {
        split: TensorBatches(*points(split), batch_size=params.batch_size, shuffle=split == "train") for split in types
    }


def points(split: str) -> tuple[np.ndarray, np.ndarray]:
    """All points of a split and their rings."""
    generator = np.random.default_rng(list(SIZES).index(split))
    rings = generator.integers(RINGS, size=SIZES[split])
    radius = rings + generator.uniform(0.2, 0.8, size=len(rings))
    angle = generator.uniform(0, 2 * np.pi, size=len(rings))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32), rings
