"""Scikit-learn's diabetes data: ten measurements of each of 442 patients, and how far the disease went in a year."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from engine.errors import UserError
from utils import Params

SIZES = {"train": 262, "val": 90, "test": 90}


def fetch_dataloader(types: Sequence[str], data_dir: str, params: Params) -> dict[str, DataLoader]:
    """Batches of (B, 10) measurements and (B,) progressions; the splits are the same for every seed."""
    inputs, labels = load_diabetes(return_X_y=True, scaled=False)
    table = torch.tensor(np.column_stack([inputs, labels]), dtype=torch.float32)  # (442, 11), the label last
    rows = torch.randperm(len(table), generator=torch.Generator().manual_seed(0)).split(list(SIZES.values()))
    tables = {split: table[chosen] for split, chosen in zip(SIZES, rows, strict=True)}
    params.std, params.mean = (part.tolist() for part in torch.std_mean(tables["train"], dim=0))  # kept from now on
    datasets = {split: TensorDataset(tables[split][:, :-1], tables[split][:, -1]) for split in types}
    return {split: DataLoader(datasets[split], params.batch_size, shuffle=split == "train") for split in types}


def read_input(source: str, params: Params) -> Iterator[tuple[str, Tensor]]:
    """The rows of a CSV file of ten measurements each, by their lines; the first may be a header."""
    for number, line in enumerate(Path(source).read_text(encoding="utf-8-sig").splitlines(), start=1):
        try:
            row = [float(cell) for cell in line.split(",")]
        except ValueError:
            row = []
        if len(row) != len(params.mean) - 1 and (row or (number > 1 and line.strip())):
            raise UserError(f"line {number} is not {len(params.mean) - 1} numbers: {line}")
        if row:
            yield f"{source}:{number}", torch.tensor(row)
