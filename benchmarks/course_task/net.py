"""The course's network for 64x64 colour images: what `images.py` trains on both sides."""

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from engine.hyperparameters import Params


class Net(nn.Module):
    """Three times convolution, normalisation, pooling, ReLU; then two linear layers.

    (B, 3, 64, 64) images -> (B, 10) log-probabilities.
    """

    def __init__(self, params: Params) -> None:
        super().__init__()
        width = params.num_channels
        sizes = [3, width, 2 * width, 4 * width]
        self.convolutions = nn.ModuleList(nn.Conv2d(sizes[i], sizes[i + 1], 3, padding=1) for i in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) for size in sizes[1:])
        self.hidden = nn.Linear(8 * 8 * 4 * width, 4 * width)
        self.hidden_norm = nn.BatchNorm1d(4 * width)
        self.last = nn.Linear(4 * width, 10)
        self.dropout_rate = params.dropout_rate

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 64, 64) -> (B, 10)."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            images = functional.relu(functional.max_pool2d(norm(convolution(images)), 2))
        features = images.reshape(len(images), -1)
        features = functional.relu(self.hidden_norm(self.hidden(features)))
        features = functional.dropout(features, self.dropout_rate, self.training)
        return functional.log_softmax(self.last(features), dim=1)


loss_fn = functional.nll_loss


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of `(B, 10)` outputs that are highest at their `(B,)` label."""
    return float(np.mean(outputs.argmax(axis=1) == labels))


metrics = {"accuracy": accuracy}
