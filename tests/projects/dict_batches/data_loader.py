"""Recordings of different lengths, padded batch by batch; a batch is a dict, and knows its files."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from utils import Params

SIZES = {"train": 96, "val": 45, "test": 30}
Recording = dict[str, Any]


class Recordings(Dataset[Recording]):
    """Noisy values around -1, 0 or 1, the class; the training ones are cut to another stretch each time."""

    def __init__(self, split: str) -> None:
        generator = np.random.default_rng(list(SIZES).index(split))
        self.labels = generator.integers(3, size=SIZES[split])
        lengths = generator.integers(3, 12, size=SIZES[split])
        self.values = [
            torch.from_numpy(generator.normal(label - 1, 1, size=length).astype(np.float32))
            for label, length in zip(self.labels, lengths, strict=True)
        ]
        self.split = split

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Recording:
        values = self.values[index]
        if self.split == "train":
            values = values[torch.randint(len(values) // 2, ()) :]
        return {"values": values, "label": int(self.labels[index]), "file": f"{self.split}/{index}.wav"}


def pad(recordings: Sequence[Recording]) -> dict[str, Tensor | list[str]]:
    """A batch with `values` (B, T) and `mask` (B, T), as long as its longest recording, `labels` (B,) and `files`."""
    values = [recording["values"] for recording in recordings]
    return {
        "values": torch.nn.utils.rnn.pad_sequence(values, batch_first=True),
        "mask": torch.nn.utils.rnn.pad_sequence([torch.ones_like(v) for v in values], batch_first=True),
        "labels": torch.tensor([recording["label"] for recording in recordings]),
        "files": [recording["file"] for recording in recordings],
    }


def fetch_dataloader(types: Sequence[str], data_dir: str, params: Params) -> dict[str, DataLoader[Recording]]:
    """The batches of each split."""
    options: dict[str, Any] = {"num_workers": params.num_workers, "collate_fn": pad, "batch_size": params.batch_size}
    return {split: DataLoader(Recordings(split), shuffle=split == "train", **options) for split in types}
