"""Vectors with up to three topics each; which ones shows in their features, through noise."""

from collections.abc import Sequence

import numpy as np

from engine.data import TensorBatches
from utils import Params

SIZES = {"train": 300, "val": 83, "test": 83}
TOPICS = ["politics", "science", "sports"]
FREQUENCIES = [0.5, 0.3, 0.1]
FEATURES = 6


def fetch_dataloader(types: Sequence[str], data_dir: str, params: Params) -> dict[str, TensorBatches]:
    """Batches of (B, 6) features and (B, 3) labels, 1.0 for each topic that an example has; tells params the topics."""
    params.topics = TOPICS
    return {
        split: TensorBatches(*examples(split), batch_size=params.batch_size, shuffle=split == "train")
        for split in types
    }


def examples(split: str) -> tuple[np.ndarray, np.ndarray]:
    """All examples of a split and their labels."""
    directions = np.random.default_rng(9).normal(size=(len(TOPICS), FEATURES))
    generator = np.random.default_rng(list(SIZES).index(split))
    labels = generator.random((SIZES[split], len(TOPICS))) < FREQUENCIES
    features = labels @ directions + generator.normal(scale=1.2, size=(len(labels), FEATURES))
    return features.astype(np.float32), labels.astype(np.float32)
