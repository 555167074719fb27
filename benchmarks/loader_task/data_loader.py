"""The digits of `training_loop.py` in plain `DataLoader`s over `TensorDataset`s, as most projects have them."""

from torch.utils.data import DataLoader, TensorDataset

from benchmarks.training_loop import BATCH_SIZE, split_digits
from engine.hyperparameters import Params


def fetch_dataloader(types: list[str], data_dir: str, params: Params) -> dict[str, DataLoader]:
    """The batches of each split."""
    data = split_digits()
    return {name: DataLoader(TensorDataset(*data[name]), BATCH_SIZE, shuffle=name == "train") for name in types}
