"""Triplets of noisy vectors: an anchor, another view of the same thing, and a view of another thing."""

from collections.abc import Sequence

import numpy as np

from engine.data import TensorBatches
from utils import Params

SIZES = {"train": 300, "val": 70, "test": 70}
THINGS, FEATURES = 12, 10


def fetch_dataloader(types: Sequence[str], data_dir: str, params: Params) -> dict[str, TensorBatches]:
    """Batches of three: anchors, positives and negatives, each (B, 10)."""
    return {
        split: TensorBatches(*triplets(split), batch_size=params.batch_size, shuffle=split == "train")
        for split in types
    }


def triplets(split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All triplets of a split. What tells things apart is in two features; the others are noise, and louder."""
    things = np.random.default_rng(9).normal(size=(THINGS, 2))
    generator = np.random.default_rng(list(SIZES).index(split))
    same = generator.integers(THINGS, size=SIZES[split])
    other = (same + generator.integers(1, THINGS, size=len(same))) % THINGS

    def views(which: np.ndarray) -> np.ndarray:
        signal = things[which] + generator.normal(scale=0.1, size=(len(which), 2))
        noise = generator.normal(scale=1.5, size=(len(which), FEATURES - 2))
        return np.concatenate([signal, noise], axis=1).astype(np.float32)

    return views(same), views(same), views(other)
