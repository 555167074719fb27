"""Three networks for small photographs, the loss and the accuracy."""

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from engine.hyperparameters import Key
from utils import Params


class Net(nn.Module):
    """The network that `net` in params.json names: (B, 3, 32, 32) images -> (B, classes) logits."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.layers = NETS[params.option(NET)](params)

    def forward(self, images: Tensor) -> Tensor:
        """One layer after the other."""
        return self.layers(images)


def lenet(params: Params) -> nn.Module:
    """Two convolutions and three linear layers, after LeCun's network of 1998."""
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),  # -> (B, 6, 14, 14)
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),  # -> (B, 16, 5, 5)
        nn.Flatten(),  # -> (B, 400)
        *(nn.Linear(400, 120), nn.ReLU()),
        *(nn.Linear(120, 84), nn.ReLU()),
        nn.Linear(84, len(params.classes)),
    )


def resnet18(params: Params) -> nn.Module:
    """ResNet-18 as torchvision has it, made for images seven times as large."""
    from torchvision import models

    return models.resnet18(num_classes=len(params.classes))


def fast(params: Params) -> nn.Module:
    """Eight convolutions and a linear layer, after David Page's ResNet-9 ("How to Train Your ResNet", 2018)."""
    width = params.num_channels
    return BothWays(
        convolution(3, width),  # -> (B, 64, 32, 32)
        *(convolution(width, 2 * width, halved=True), Residual(2 * width)),  # -> (B, 128, 16, 16)
        convolution(2 * width, 4 * width, halved=True),  # -> (B, 256, 8, 8)
        *(convolution(4 * width, 8 * width, halved=True), Residual(8 * width)),  # -> (B, 512, 4, 4)
        *(nn.AdaptiveMaxPool2d(1), nn.Flatten()),  # -> (B, 512)
        Eighth(8 * width, len(params.classes)),
    )


class BothWays(nn.Sequential):
    """One layer after the other; in evaluation, the mean of what they say of each image and of its mirror image."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 32, 32) images -> (B, classes) logits."""
        logits = super().forward(images)
        return logits if self.training else (logits + super().forward(images.flip(3))) / 2


class Eighth(nn.Linear):
    """A linear layer whose outputs are an eighth as large, so that it does not learn ahead of those below it."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C) features -> (B, classes) logits."""
        return super().forward(features) / 8


class Residual(nn.Module):
    """Two convolutions whose result is added to their input: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(convolution(channels, channels), convolution(channels, channels))

    def forward(self, inputs: Tensor) -> Tensor:
        """The sum: a signal and its gradient always find the direct way."""
        return inputs + self.layers(inputs)


def convolution(channels_in: int, channels_out: int, halved: bool = False) -> nn.Sequential:
    """3x3 convolution, half the side if so asked for, normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.MaxPool2d(2) if halved else nn.Identity(),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


NETS = {"lenet": lenet, "resnet18": resnet18, "fast": fast}
NET = Key("net", str, "lenet", "which network", choices=tuple(NETS))


def loss_fn(outputs: Tensor, labels: Tensor, params: Params) -> Tensor:
    """Cross-entropy of (B, classes) logits and (B,) labels."""
    return functional.cross_entropy(outputs, labels, label_smoothing=params.label_smoothing)


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows whose largest logit is that of the label."""
    return float(np.mean(np.argmax(outputs, axis=1) == labels))


metrics = {"accuracy": accuracy}
