"""Four networks for small photographs, the loss and the accuracy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Muon, Optimizer

from engine.hyperparameters import Key
from engine.training import Together, make_optimizer
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


def speed(params: Params) -> nn.Module:
    """A whitening layer, six convolutions and a linear layer, after Keller Jordan's network of 94 % (2024)."""
    torch.backends.cudnn.benchmark = not params.deterministic  # sizes never change: cuDNN may try what is fastest
    width = params.num_channels
    return SixLooks(
        *(Whitening(params.whitening), nn.GELU()),  # -> (B, 24, 31, 31)
        *two_convolutions(24, width),  # -> (B, 64, 15, 15)
        *two_convolutions(width, 4 * width),  # -> (B, 256, 7, 7)
        *two_convolutions(4 * width, 4 * width),  # -> (B, 256, 3, 3)
        *(nn.MaxPool2d(3), nn.Flatten()),  # -> (B, 256)
        Mean(4 * width, len(params.classes)),
    )


class SixLooks(nn.Sequential):
    """One layer after the other; in evaluation, the mean of what they say of six looks at each image.

    It and both one-pixel shifts along the diagonal, each of them as it is and mirrored; unshifted looks count twice.
    """

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 32, 32) images -> (B, classes) logits."""
        if self.training:
            return super().forward(images)
        padded = functional.pad(images, [1, 1, 1, 1], mode="reflect")
        shown = torch.cat([images, padded[:, :, :-2, :-2], padded[:, :, 2:, 2:]])
        logits = super().forward(torch.cat([shown, shown.flip(3)]))
        plain, *shifted = logits.float().view(2, 3, len(images), -1).mean(0)
        return plain / 2 + sum(shifted) / 4


class Whitening(nn.Conv2d):
    """A 2x2 convolution whose outputs, on patches of the training images, have variance 1 and nothing in common.

    (B, 3, H, W) -> (B, 24, H - 1, W - 1): of each of the `filters`, its output and the negative of that. They stay as
    they are, and only what is added to them learns.
    """

    def __init__(self, filters: list[list[float]]) -> None:
        super().__init__(3, 2 * len(filters), 2)
        weight = torch.tensor(filters).view(-1, 3, 2, 2)
        self.weight = nn.Parameter(torch.cat([weight, -weight]), requires_grad=False)


def two_convolutions(channels_in: int, channels_out: int) -> list[nn.Module]:
    """Two 3x3 convolutions, half the side after the first, each with a normalisation and a GELU."""
    first, second = MatrixConvolution(channels_in, channels_out), MatrixConvolution(channels_out, channels_out)
    return [
        *(first, nn.MaxPool2d(2), shifting_norm(channels_out), nn.GELU()),
        *(second, shifting_norm(channels_out), nn.GELU()),
    ]


class MatrixConvolution(nn.Module):
    """A 3x3 convolution whose weights are one matrix, (C_out, 9 * C_in), as Muon takes them.

    (B, C_in, H, W) -> (B, C_out, H, W). It begins by handing on what comes in, as far as there is room.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        weight = nn.Conv2d(channels_in, channels_out, 3, bias=False).weight.detach()
        nn.init.dirac_(weight[:channels_in])
        self.weight = nn.Parameter(weight.permute(0, 2, 3, 1).flatten(1))  # so that it lies as channels_last has it

    def forward(self, images: Tensor) -> Tensor:
        """The convolution."""
        weight = self.weight.unflatten(1, (3, 3, -1)).permute(0, 3, 1, 2)
        return functional.conv2d(images, weight, padding=1)


def shifting_norm(channels: int) -> nn.BatchNorm2d:
    """A batch norm that forgets fast, and of which only what it adds learns."""
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


class Mean(nn.Linear):
    """A linear layer without bias that takes means in place of sums; its weights begin with a deviation of 1."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(channels, classes, bias=False)
        self.weight = nn.Parameter(self.weight.detach() / self.weight.detach().std())

    def forward(self, features: Tensor) -> Tensor:
        """(B, C) features -> (B, classes) logits."""
        return super().forward(features) / self.in_features


NETS = {"lenet": lenet, "resnet18": resnet18, "fast": fast, "speed": speed}
NET = Key("net", str, "lenet", "which network", choices=tuple(NETS))


def configure_optimizer(model: Net, params: Params) -> Optimizer:
    """For `speed` Muon for the convolutions and SGD for the rest; for the other networks what params.json names."""
    if params.option(NET) != "speed":
        arguments = {name: getattr(params, name) for name in ("betas", "weight_decay", "momentum")}
        return make_optimizer(params.optimizer, model, params.learning_rate, **arguments)
    matrices = [part.weight for part in model.modules() if isinstance(part, MatrixConvolution)]
    head = [part.weight for part in model.modules() if isinstance(part, Mean)]
    biases = [bias for name, bias in model.named_parameters() if name.endswith("bias")]
    groups = [group_of(biases, params.bias_rate, params), group_of(head, params.head_rate, params)]
    muon = Muon(matrices, params.learning_rate, weight_decay=0.0, momentum=params.muon_momentum, ns_steps=3)
    muon.register_step_pre_hook(normalize)
    return Together(muon, SGD(groups, momentum=params.momentum, nesterov=True))


def group_of(weights: Sequence[Tensor], rate: float, params: Params) -> dict[str, Any]:
    """A group that learns at `rate`, and decays at a pace of its own, for each example of a batch."""
    return {"params": weights, "lr": rate * params.batch_size, "weight_decay": params.weight_decay / rate}


@torch.no_grad()
def normalize(optimizer: Optimizer, *_: Any) -> None:
    """Bring each matrix, whose scale the norm behind it undoes, back to rows of length 1, on average, before a step."""
    for weight in optimizer.param_groups[0]["params"]:
        weight.mul_(len(weight) ** 0.5 / weight.norm())


def loss_fn(outputs: Tensor, labels: Tensor, params: Params) -> Tensor:
    """Cross-entropy of (B, classes) logits and (B,) labels."""
    return functional.cross_entropy(outputs, labels, label_smoothing=params.label_smoothing)


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows whose largest logit is that of the label."""
    return float(np.mean(np.argmax(outputs, axis=1) == labels))


metrics = {"accuracy": accuracy}
