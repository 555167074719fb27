"""One trunk with a head for the class and one for the value; their losses are added up, with a weight from params."""

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from tests.projects.multi_task.data_loader import FEATURES, KINDS
from utils import Params

Heads = dict[str, Tensor]


class Net(nn.Module):
    """(B, 8) features -> {"kind": (B, 3) logits, "size": (B,)}."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(FEATURES, params.num_hidden), nn.ReLU())
        self.kind = nn.Linear(params.num_hidden, KINDS)
        self.size = nn.Linear(params.num_hidden, 1)

    def forward(self, features: Tensor) -> Heads:
        """Both heads, on the same hidden layer."""
        hidden = self.trunk(features)
        return {"kind": self.kind(hidden), "size": self.size(hidden).squeeze(1)}


def loss_fn(outputs: Heads, labels: Heads, params: Params) -> dict[str, Tensor]:
    """The loss to minimise and the parts it is made of, each of which is logged."""
    kind = functional.cross_entropy(outputs["kind"], labels["kind"])
    size = functional.mse_loss(outputs["size"], labels["size"])
    return {"loss": kind + params.size_weight * size, "kind_loss": kind, "size_loss": size}


def kind_accuracy(outputs: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> float:
    """The share of examples whose kind is told."""
    return np.mean(outputs["kind"].argmax(axis=1) == labels["kind"])


def size_error(outputs: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> float:
    """By how much the size is missed, on average."""
    return np.mean(np.abs(outputs["size"] - labels["size"]))


metrics = {"kind_accuracy": kind_accuracy, "size_error": size_error}


def predict(outputs: Heads, params: Params) -> dict[str, Tensor]:
    """What both heads say of each example."""
    return {"kind": outputs["kind"].argmax(dim=1), "size": outputs["size"]}
