"""Two autoencoders, chosen by name: `"net": "small"` or `"wide"`."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from utils import Params


class Small(nn.Module):
    """(B, 12) curves -> (B, 2) codes -> (B, 12) curves, in straight lines."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(12, 2), nn.Linear(2, 12)

    def forward(self, curves: Tensor) -> tuple[Tensor, Tensor]:
        codes = self.encoder(curves)
        return codes, self.decoder(codes)


class Wide(Small):
    """The same with a hidden layer of 32 on either side."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 2))
        self.decoder = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 12))


NETWORKS = {"small": Small, "wide": Wide}


def Net(params: Params) -> nn.Module:  # noqa: N802  a function will do where a class is not needed
    """The network that params.json names."""
    return NETWORKS[params.net]()


def step(model: nn.Module, batch: list[Tensor], params: Params) -> tuple[Tensor, Any, Tensor]:
    """The curves are their own labels."""
    (curves,) = batch
    codes, again = model(curves)
    return functional.mse_loss(again, curves), {"codes": codes, "curves": again}, curves


def predict(outputs: dict[str, Tensor], params: Params) -> dict[str, Any]:
    """What is written for each curve: its code."""
    first, second = torch.unbind(outputs["codes"].float().cpu(), dim=1)
    return {"code_0": first, "code_1": second}
