"""Houses: a table of figures and a series of past prices, to predict the next price."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from utils import Params

SIZES = {"train": 120, "validation": 50, "test": 50}
NAMES_FOR_VALIDATION = ("dev", "valid")


class Houses(Dataset[tuple[tuple[Tensor, Tensor], Tensor]]):
    """((4,) figures, (6,) past prices), price."""

    def __init__(self, split: str) -> None:
        generator = np.random.default_rng(list(SIZES).index(split))
        figures = generator.normal(size=(SIZES[split], 4))
        past = generator.normal(size=(SIZES[split], 6))
        noise = generator.normal(scale=0.3, size=SIZES[split])
        price = 3 + figures @ [1, -1, 0.5, 0] + past[:, -3:].mean(axis=1) + noise
        self.figures, self.past, self.price = (torch.tensor(x, dtype=torch.float32) for x in (figures, past, price))

    def __len__(self) -> int:
        return len(self.price)

    def __getitem__(self, index: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        return (self.figures[index], self.past[index]), self.price[index]


def fetch_dataloader(types: Sequence[str], data_dir: str, params: Params) -> dict[str, DataLoader]:
    """The splits train, test and, under the name that `validation_name` gives it, the one to validate on."""
    files = {"train": "train", params.validation_name: "validation", "test": "test"}
    return {
        split: DataLoader(Houses(files[split]), batch_size=params.batch_size, shuffle=split == "train")
        for split in types
        if split in files
    }
