"""A backbone with batch normalisation that can be frozen, and a learning rate for each part."""

import numpy as np
from torch import Tensor, nn, optim
from torch.optim import lr_scheduler

from utils import Params


class Net(nn.Module):
    """(B, 3) points -> (B, 3) logits; with `freeze`, all of the backbone stays as it is."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(3, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU())
        self.head = nn.Linear(16, 3)
        self.backbone.requires_grad_(not params.freeze)

    def forward(self, points: Tensor) -> Tensor:
        return self.head(self.backbone(points))


loss_fn = nn.functional.cross_entropy


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of points that are classified right."""
    return np.mean(outputs.argmax(axis=1) == labels)


metrics = {"accuracy": accuracy}


def configure_optimizer(model: Net, params: Params) -> optim.Optimizer:
    """The head learns at `learning_rate`, the backbone at `backbone_rate` times as much."""
    groups = [
        {"params": model.head.parameters()},
        {"params": model.backbone.parameters(), "lr": params.learning_rate * params.backbone_rate},
    ]
    return optim.SGD(groups, lr=params.learning_rate)


def configure_scheduler(
    optimizer: optim.Optimizer, params: Params, total_steps: int
) -> tuple[lr_scheduler.LRScheduler, str]:
    """Down to a tenth in one fall per epoch, or in a straight line step by step."""
    if params.decay_per == "epoch":
        return lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.1), "epoch"
    return lr_scheduler.LinearLR(optimizer, 1, 0.1, total_iters=total_steps), "step"
