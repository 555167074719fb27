"""Sentences of token numbers, to be told apart by the words in them."""

from collections.abc import Sequence

import numpy as np

from engine.data import TensorBatches
from utils import Params

SIZES = {"train": 120, "val": 48, "test": 48}
LONGEST = 9


def fetch_dataloader(types: Sequence[str], data_dir: str, params: Params) -> dict[str, TensorBatches]:
    """Batches of three: (B, 9) token numbers, their (B, 9) mask, (B,) labels."""
    params.vocab_size = 20
    return {
        split: TensorBatches(*sentences(split), batch_size=params.batch_size, shuffle=split == "train")
        for split in types
    }


def sentences(split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each class has words that it prefers; 0 is the padding."""
    generator = np.random.default_rng(list(SIZES).index(split))
    labels = generator.integers(2, size=SIZES[split])
    lengths = generator.integers(4, LONGEST + 1, size=SIZES[split])
    mask = np.arange(LONGEST) < lengths[:, None]
    words = np.where(labels[:, None] == 1, generator.integers(8, 20, mask.shape), generator.integers(1, 13, mask.shape))
    return words * mask, mask, labels
