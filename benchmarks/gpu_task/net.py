"""The small convolutional network of `gpu.py`, as a task package."""

import itertools

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from engine.hyperparameters import Params


def layers() -> nn.Sequential:
    """Three convolutions, `(B, 3, H, W)` images -> `(B, 10)` logits."""
    widths = (3, 32, 64, 128)
    blocks = [
        (nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2))
        for before, after in itertools.pairwise(widths)
    ]
    return nn.Sequential(*sum(blocks, ()), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


class Net(nn.Module):
    """The layers."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.layers = layers()

    def forward(self, images: Tensor) -> Tensor:
        """One after the other."""
        return self.layers(images)


loss_fn = cross_entropy


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of `(B, 10)` outputs that are highest at their `(B,)` label."""
    return float(np.mean(outputs.argmax(axis=1) == labels))


metrics = {"accuracy": accuracy}
