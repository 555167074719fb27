"""A linear embedding in which views of one thing are near each other; whether two are is a matter of a threshold."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.projects.triplet.data_loader import FEATURES
from utils import Params


class Net(nn.Linear):
    """(B, 10) views -> (B, D) embeddings."""

    def __init__(self, params: Params) -> None:
        super().__init__(FEATURES, params.embedding_size)


def step(model: Net, batch: tuple[Tensor, Tensor, Tensor], params: Params) -> tuple[Tensor, Tensor, None]:
    """The outputs are (B, 2) distances, of the pair that belongs together and of the one that does not; no labels."""
    anchors, positives, negatives = (model(views) for views in batch)
    near = functional.pairwise_distance(anchors, positives)
    far = functional.pairwise_distance(anchors, negatives)
    loss = (near - far + params.margin).clamp(min=0).mean()
    return loss, torch.stack([near, far], dim=1), None


def metrics(params: Params) -> dict[str, Callable[[np.ndarray, None], object]]:
    """Functions of the distances; the labels are None."""

    def pair_accuracy(distances: np.ndarray, labels: None) -> tuple[float, int]:
        """Of all pairs, two in a triplet: those on the right side of the threshold, and how many there are."""
        together, apart = distances[:, 0] < params.threshold, distances[:, 1] >= params.threshold
        return together.sum() + apart.sum(), distances.size

    return {"pair_accuracy": pair_accuracy}


def predict(outputs: Tensor, params: Params) -> dict[str, Tensor]:
    """Both distances of each triplet."""
    return {"positive_distance": outputs[:, 0], "negative_distance": outputs[:, 1]}
