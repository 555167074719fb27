"""A network with everything that a resumed run could get wrong: dropout, batch statistics, metrics with a memory."""

import numpy as np
from torch import nn
from torchmetrics.classification import MulticlassAUROC

from engine.training import MacroF1
from tests.projects.points.net import accuracy


class Net(nn.Sequential):
    """(B, 2) points -> (B, 3) logits."""

    def __init__(self, params):
        super().__init__(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))


loss_fn = nn.functional.cross_entropy


def size(outputs, labels):
    """In double precision, so that the order shows in which it is added up."""
    return np.square(outputs.astype(np.float64)).mean()


def metrics(params):
    return {"accuracy": accuracy, "size": size, "f1": MacroF1(3), "auroc": MulticlassAUROC(num_classes=3)}
