"""The network of the points, with dropout."""

from torch import nn

from tests.projects.points.net import loss_fn, metrics  # noqa: F401


class Net(nn.Sequential):
    """(B, 2) points -> (B, 3) logits."""

    def __init__(self, params):
        super().__init__(nn.Linear(2, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
