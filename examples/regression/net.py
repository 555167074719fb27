"""Two layers that predict a number; what is watched is the root mean square error."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanSquaredError, R2Score

from utils import Params


class Net(nn.Module):
    """(B, 10) measurements -> (B,) progressions, both in their own units."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.mean, self.std = (nn.Buffer(torch.tensor(values)) for values in (params.mean, params.std))
        self.hidden = nn.Linear(len(params.mean) - 1, params.num_hidden)
        self.output = nn.Linear(params.num_hidden, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Inside, all numbers are about as large as 1."""
        hidden = torch.relu(self.hidden((inputs - self.mean[:-1]) / self.std[:-1]))  # (B, num_hidden)
        return self.output(hidden).squeeze(dim=1) * self.std[-1] + self.mean[-1]


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean square error."""
    return functional.mse_loss(outputs, labels)


metrics = {"rmse": MeanSquaredError(squared=False), "r2": R2Score()}  # of a whole split: neither is a mean of batches'


def report(predictions: Any, folder: Path) -> None:
    """A picture of what was predicted against what is true."""
    from engine.training import regression

    regression.write_report(predictions, folder)
