"""A network that is given values with their mask, and metrics that know the lengths."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from utils import Params


class Net(nn.Module):
    """(B, T) values and their (B, T) mask -> (B, 3) logits: features of each value, averaged where the mask is 1."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(1, 16), nn.Tanh())
        self.classifier = nn.Linear(16, 3)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        features = self.features(values[:, :, None]) * mask[:, :, None]  # (B, T, 16)
        return self.classifier(features.sum(dim=1) / mask.sum(dim=1, keepdim=True))


def step(model: nn.Module, batch: dict[str, Any], params: Params) -> tuple[Tensor, Any, Any]:
    """The loss, the outputs with the names of their files, and the labels with the lengths of the recordings."""
    logits = model(batch["values"], batch["mask"])
    loss = functional.cross_entropy(logits, batch["labels"])
    outputs = {"logits": logits, "files": batch["files"]}
    return loss, outputs, {"class": batch["labels"], "length": batch["mask"].sum(dim=1)}


def accuracy(outputs: dict[str, Any], labels: dict[str, np.ndarray]) -> float:
    """The share of recordings that are classified right."""
    return np.mean(outputs["logits"].argmax(axis=1) == labels["class"])


def time_accuracy(outputs: dict[str, Any], labels: dict[str, np.ndarray]) -> tuple[float, float]:
    """The share of the recorded time that is classified right, as (total, count)."""
    right = outputs["logits"].argmax(axis=1) == labels["class"]
    return (right * labels["length"]).sum(), labels["length"].sum()


metrics = {"accuracy": accuracy, "time_accuracy": time_accuracy}


def predict(outputs: dict[str, Any], params: Params) -> dict[str, Any]:
    """What is written for each recording: its file and its class."""
    return {"recording": outputs["files"], "prediction": torch.argmax(outputs["logits"], dim=1).cpu()}
