"""Points scattered around the corners of a cube, in three classes; and some that nobody has labelled."""

from collections.abc import Sequence

import numpy as np

from engine.data import TensorBatches
from utils import Params

SIZES = {"train": 160, "val": 50, "test": 50, "unlabelled": 33}


def fetch_dataloader(types: Sequence[str], data_dir: str, params: Params) -> dict[str, TensorBatches]:
    """The batches of each split; those of `unlabelled` are of inputs alone."""
    return {
        split: TensorBatches(*examples(split), batch_size=params.batch_size, shuffle=split == "train")
        for split in types
    }


def examples(split: str) -> tuple[np.ndarray, ...]:
    """The (N, 3) points and, but for `unlabelled`, their (N,) labels."""
    generator = np.random.default_rng(list(SIZES).index(split))
    labels = generator.integers(3, size=SIZES[split])
    points = (np.eye(3)[labels] + generator.normal(scale=0.4, size=(len(labels), 3))).astype(np.float32)
    return (points,) if split == "unlabelled" else (points, labels)
