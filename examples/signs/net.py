"""Two networks for hand signs, a loss written by hand, and the accuracy."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from engine.hyperparameters import Key
from utils import Params


class Net(nn.Module):
    """The network that `net` in params.json names: (B, 3, 64, 64) images -> (B, 6) log-probabilities."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.layers = NETS[params.option(NET)](params)

    def forward(self, images: Tensor) -> Tensor:
        """One layer after the other."""
        return self.layers(images)


def course(params: Params) -> nn.Sequential:
    """The network of CS230, with num_channels 32: three convolutions, two linear layers."""
    width = params.num_channels
    return nn.Sequential(
        *(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.MaxPool2d(2), nn.ReLU()),  # (B, 32, 32, 32)
        *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(2 * width, 4 * width, 3, padding=1), nn.BatchNorm2d(4 * width), nn.MaxPool2d(2), nn.ReLU()),
        nn.Flatten(),  # (B, 128, 8, 8) -> (B, 8192)
        *(nn.Linear(8 * 8 * 4 * width, 4 * width), nn.BatchNorm1d(4 * width), nn.ReLU()),
        nn.Dropout(params.dropout_rate),
        nn.Linear(4 * width, len(params.classes)),
        nn.LogSoftmax(dim=1),
    )


def modern(params: Params) -> nn.Sequential:
    """Strides in place of pooling, residual blocks, and the mean over all places in place of a large layer."""
    width = params.num_channels
    return nn.Sequential(
        convolution(3, width, stride=2),  # with num_channels 16 -> (B, 16, 32, 32)
        *(convolution(width, 2 * width, stride=2), Residual(2 * width)),  # -> (B, 32, 16, 16)
        *(convolution(2 * width, 4 * width, stride=2), Residual(4 * width)),  # -> (B, 64, 8, 8)
        *(convolution(4 * width, 8 * width, stride=2), Residual(8 * width)),  # -> (B, 128, 4, 4)
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),  # -> (B, 128)
        nn.Linear(8 * width, len(params.classes)),
        nn.LogSoftmax(dim=1),
    )


class Residual(nn.Module):
    """Two convolutions whose result is added to their input: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(convolution(channels, channels), convolution(channels, channels))

    def forward(self, inputs: Tensor) -> Tensor:
        """The sum: a signal and its gradient always find the direct way."""
        return inputs + self.layers(inputs)


def convolution(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, normalisation, ReLU: (B, C, H, W) -> (B, channels_out, H / stride, W / stride)."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


NETS = {"course": course, "modern": modern}
NET = Key("net", str, "course", "which network", choices=tuple(NETS))


def loss_fn(outputs: Tensor, labels: Tensor, params: Params) -> Tensor:
    """The mean of -log p(label), by hand, but for a share of it that goes to all classes alike."""
    of_labels, of_all = outputs[range(len(labels)), labels].mean(), outputs.mean()  # (B, 6) log-probabilities -> ()
    return -(1 - params.label_smoothing) * of_labels - params.label_smoothing * of_all


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows whose largest log-probability is that of the label."""
    return float(np.mean(np.argmax(outputs, axis=1) == labels))


metrics = {"accuracy": accuracy}


def report(predictions: Any, folder: Path) -> None:
    """A table of the classes in the log, and pictures of the confusions and of the worst mistakes in `folder`."""
    from engine.training import classification

    classification.write_report(predictions, folder)
