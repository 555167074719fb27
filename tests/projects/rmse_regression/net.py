"""A network with two inputs, and the root mean square error, which is no mean over batches."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from utils import Params


class Net(nn.Module):
    """((B, 4) figures, (B, 6) past prices) -> (B,) prices."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.of_figures, self.of_past = nn.Linear(4, 16), nn.Linear(6, 16)
        self.price = nn.Linear(16, 1)

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        figures, past = inputs
        return self.price(torch.relu(self.of_figures(figures) + self.of_past(past))).squeeze(1)


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    """Half squares for small errors, so that outliers count less than they do in the RMSE."""
    return functional.huber_loss(outputs, labels)


class RootMeanSquareError:
    """The root of the mean square error over a whole split, from `(B,)` outputs and `(B,)` labels."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.squares, self.count = torch.zeros(()), 0

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        self.squares = self.squares.to(outputs.device) + (outputs - labels).square().sum()
        self.count += len(labels)

    def compute(self) -> float:
        return math.sqrt(self.squares.item() / self.count)

    def state_dict(self) -> dict[str, Any]:
        return {"squares": self.squares, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.squares, self.count = state["squares"], state["count"]


metrics = {"rmse": RootMeanSquareError()}


def predict(outputs: Tensor, params: Params) -> dict[str, Any]:
    """What is written for each house."""
    return {"price": outputs.float().cpu()}
