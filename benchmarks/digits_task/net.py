"""The small network that `training_loop.py` trains, as a task package."""

import numpy as np
from torch import nn
from torch.nn.functional import cross_entropy

from engine.hyperparameters import Params


class Net(nn.Sequential):
    """MLP: `(B, 64)` pixels -> `(B, 10)` logits."""

    def __init__(self, params: Params) -> None:
        super().__init__(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))


loss_fn = cross_entropy


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of `(B, 10)` outputs that are highest at their `(B,)` label."""
    return float(np.mean(outputs.argmax(axis=1) == labels))


metrics = {"accuracy": accuracy}
