"""Bright rectangles on noise and the masks of their pixels; the outline counts for nothing, as nobody can draw it."""

from collections.abc import Sequence

import numpy as np

from engine.data import TensorBatches
from utils import Params

SIZES = {"train": 64, "val": 21, "test": 21}
SIDE = 12
IGNORED = 255  # in a mask: neither background (0) nor object (1)


def fetch_dataloader(types: Sequence[str], data_dir: str, params: Params) -> dict[str, TensorBatches]:
    """Batches of (B, 1, 12, 12) pictures and (B, 12, 12) masks."""
    return {
        split: TensorBatches(*pictures(split), batch_size=params.batch_size, shuffle=split == "train")
        for split in types
    }


def pictures(split: str) -> tuple[np.ndarray, np.ndarray]:
    """All pictures of a split and their masks."""
    generator = np.random.default_rng(list(SIZES).index(split))
    shape = (SIZES[split], 1, 1)
    top, left = generator.integers(1, 6, size=(2, *shape))
    height, width = generator.integers(2, 6, size=(2, *shape))
    rows, columns = np.mgrid[:SIDE, :SIDE]

    def within(margin: int) -> np.ndarray:
        in_rows = (rows >= top - margin) & (rows < top + height + margin)
        return in_rows & (columns >= left - margin) & (columns < left + width + margin)

    masks = np.where(within(1) & ~within(0), IGNORED, within(0))
    images = within(0) + generator.normal(scale=0.4, size=masks.shape)
    return images[:, None].astype(np.float32), masks.astype(np.int64)
