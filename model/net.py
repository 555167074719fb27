"""Network, loss and metrics for classifying images."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.hyperparameters import Key
from engine.training import MacroF1
from utils import Params

NUM_CHANNELS = Key("num_channels", int, 32, "channels of the first stage; each further one has twice as many", low=1)
DROPOUT_RATE = Key("dropout_rate", float, 0.0, "share of features dropped before the last layer", low=0, high=0.99)
LABEL_SMOOTHING = Key("label_smoothing", float, 0.0, "share of the target spread over all classes", low=0, high=1)
CLASS_WEIGHTS = Key("class_weights", str, None, "make all classes count the same", choices=("balanced",))


class Net(nn.Module):
    """A small residual network, with as many stages as the image size allows.

    (B, C, S, S) images, normalised -> (B, classes) logits.
    """

    def __init__(self, params: Params) -> None:
        super().__init__()
        width, side = params.option(NUM_CHANNELS), params.image_size
        stride = 2 if side >= 32 else 1
        layers: list[nn.Module] = [convolution(params.image_channels, width, stride)]
        side //= stride
        while side >= 8:  # so that at least 4 x 4 places are left
            layers += [convolution(width, 2 * width, stride=2), Residual(2 * width)]
            width, side = 2 * width, (side + 1) // 2
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(params.option(DROPOUT_RATE))
        self.classifier = nn.Linear(width, len(params.classes))

    def forward(self, images: Tensor) -> Tensor:
        """The comments give the shapes of 64 x 64 colour images with num_channels 32 and 6 classes."""
        features = self.features(images)  # (B, 3, 64, 64) -> (B, 256, 4, 4)
        pooled = features.mean(dim=(2, 3))  # -> (B, 256)
        return self.classifier(self.dropout(pooled))  # -> (B, 6)


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
        nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def loss_fn(outputs: Tensor, labels: Tensor, params: Params) -> Tensor | tuple[Tensor, Tensor]:
    """Cross-entropy of (B, classes) logits and (B,) labels: the mean over the batch."""
    smoothing = params.option(LABEL_SMOOTHING)
    if params.option(CLASS_WEIGHTS) is None:
        return functional.cross_entropy(outputs, labels, label_smoothing=smoothing)
    counts = torch.tensor(params.class_counts, device=outputs.device)
    weights = counts.sum() / (len(counts) * counts.float())
    total = functional.cross_entropy(outputs.float(), labels, weights, reduction="sum", label_smoothing=smoothing)
    return total, weights[labels].sum()  # no mean over examples: the total, and the weights it is to be divided by


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows whose largest logit is that of the label: (B, classes), (B,) -> float."""
    return float(np.mean(np.argmax(outputs, axis=1) == labels))


def metrics(params: Params) -> dict[str, Any]:
    """What is measured on each split; macro F1 is no mean over batches, so it gathers counts and is computed once."""
    return {"accuracy": accuracy, "f1": MacroF1(len(params.classes))}


def report(predictions: Any, folder: Path) -> None:
    """The table of classes in the log, and pictures of the confusions and of the worst mistakes in `folder`."""
    from engine.training import classification

    classification.write_report(predictions, folder)
