"""Two networks for handwritten digits, the loss and the accuracy."""

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from engine.hyperparameters import Key
from utils import Params


class Net(nn.Module):
    """The network that `net` in params.json names: (B, 1, 28, 28) images -> (B, 10) logits."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.layers = NETS[params.option(NET)]()

    def forward(self, images: Tensor) -> Tensor:
        """One layer after the other."""
        return self.layers(images)


def tutorial() -> nn.Sequential:
    """Three convolutions of 32 channels, three linear layers."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),  # -> (B, 32, 14, 14)
        *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),  # -> (B, 32, 7, 7)
        *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),  # -> (B, 32, 3, 3)
        nn.Flatten(),  # -> (B, 288)
        *(nn.Linear(288, 128), nn.ReLU()),
        *(nn.Linear(128, 64), nn.ReLU()),
        nn.Linear(64, 10),
    )


def fast() -> nn.Sequential:
    """Convolutions with normalisation, which bears a learning rate a hundred times as large."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()),  # -> (B, 64, 7, 7)
        *(nn.AdaptiveMaxPool2d(1), nn.Flatten()),  # -> (B, 64)
        nn.Linear(64, 10),
    )


NETS = {"tutorial": tutorial, "fast": fast}
NET = Key("net", str, "tutorial", "which network", choices=tuple(NETS))


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of (B, 10) logits and (B,) labels."""
    return functional.cross_entropy(outputs, labels)


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows whose largest logit is that of the label."""
    return float(np.mean(np.argmax(outputs, axis=1) == labels))


metrics = {"accuracy": accuracy}
