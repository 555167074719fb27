"""The digits of `training_loop.py`, resident."""

from benchmarks.training_loop import split_digits
from engine.data import TensorBatches
from engine.hyperparameters import Params


def fetch_dataloader(types: list[str], data_dir: str, params: Params) -> dict[str, TensorBatches]:
    """The batches of each split."""
    data = split_digits()
    sizes = {"train": params.batch_size, "val": 4 * params.batch_size}
    return {name: TensorBatches(*data[name], batch_size=sizes[name], shuffle=name == "train") for name in types}
