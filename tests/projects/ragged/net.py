"""A small network with parts that are frozen or never used; the loss and the metrics are of every kind there is."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassAUROC, MulticlassF1Score

from engine.training import MacroF1
from tests.projects.ragged.sync import SyncNorm

WEIGHTS = torch.tensor([1.0, 2.0, 5.0])  # of the labels, as different as the words of sentences are many


def in_fours(norm):
    """Norms over four numbers of each row, so that they have several even where a batch has but one."""
    return nn.Sequential(nn.Unflatten(1, (4, 4)), norm(4), nn.Tanh(), nn.Linear(4, 4), norm(4), nn.Flatten())


NORMS = {
    None: nn.Identity,
    "plain": lambda: nn.BatchNorm1d(16),
    "in fours": lambda: in_fours(nn.BatchNorm1d),
    "in fours, over all processes": lambda: in_fours(SyncNorm),
}


class Net(nn.Module):
    """(B, 2) points -> (B, 3) logits."""

    def __init__(self, params):
        super().__init__()
        norm = NORMS[getattr(params, "norm", None)]()
        self.layers = nn.Sequential(nn.Linear(2, 16), norm, nn.Tanh(), nn.Linear(16, 3))
        self.frozen = nn.Linear(2, 3).requires_grad_(False)
        self.unused = nn.Linear(2, 2)
        self.register_buffer("table", torch.arange(6.0).reshape(2, 3) / 7)  # a constant

    def forward(self, points):
        return self.layers(points) + self.frozen(points) + points @ self.table


def loss_fn(outputs, labels, params):
    kind = getattr(params, "loss", "mean")
    if kind == "weighted":
        return cross_entropy(outputs, labels, WEIGHTS, reduction="sum"), WEIGHTS[labels].sum()
    loss = cross_entropy(outputs, labels)
    return {"loss": loss, "size": outputs.square().mean()} if kind == "two" else loss


def accuracy(outputs, labels):
    return np.mean(outputs.argmax(axis=1) == labels)


def recall_of_last(outputs, labels):
    return (outputs.argmax(axis=1)[labels == 2] == 2).sum(), (labels == 2).sum()


class Largest:
    """The largest logit of a split: a metric of one's own, which knows how to be merged."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.value = -np.inf

    def update(self, outputs, labels):
        self.value = max(self.value, outputs.max().item())

    def compute(self):
        return self.value

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]

    def merge(self, states):
        self.value = max(state["value"] for state in states)


def metrics(params):
    plain = {"accuracy": accuracy, "recall_of_last": recall_of_last, "f1": MacroF1(3), "largest": Largest()}
    return plain | {"auroc": MulticlassAUROC(3), "f1_of_torchmetrics": MulticlassF1Score(3, average="macro")}
