"""A classifier that learns from labels or, with `teacher` in its params, also from one that is trained already.

    python train.py --model_dir experiments/teacher
    python train.py --model_dir experiments/student --from experiments/teacher --set num_hidden=8 \
        --set teacher=experiments/teacher --set teacher_share=0.9 --set temperature=2
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.projects.distillation.data_loader import RINGS
from utils import Params, load_checkpoint


class Net(nn.Module):
    """(B, 2) points -> (B, 3) logits. The frozen teacher is a part of it, so that checkpoints are whole."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        width = params.num_hidden
        self.layers = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, RINGS))
        self.teacher = load_teacher(params.teacher) if hasattr(params, "teacher") else None

    def forward(self, points: Tensor) -> Tensor:
        """What the network itself says, without its teacher."""
        return self.layers(points)


def load_teacher(folder: str) -> Net:
    """The best network of another experiment, frozen: it is in no optimizer, and its batch statistics stay."""
    teacher = Net(Params(f"{folder}/params.json"))
    load_checkpoint(f"{folder}/best.pth.tar", teacher)
    return teacher.requires_grad_(False)


def step(model: Net, batch: tuple[Tensor, Tensor], params: Params) -> tuple[Any, Tensor, Tensor]:
    """Cross-entropy with the labels, mixed with the divergence from the teacher's softened probabilities."""
    points, labels = batch
    outputs = model(points)
    hard = functional.cross_entropy(outputs, labels)
    if model.teacher is None:
        return hard, outputs, labels
    with torch.no_grad():
        taught = model.teacher(points)
    soft = divergence(outputs / params.temperature, taught / params.temperature) * params.temperature**2
    loss = (1 - params.teacher_share) * hard + params.teacher_share * soft
    return {"loss": loss, "hard_loss": hard, "soft_loss": soft}, outputs, labels


def divergence(outputs: Tensor, taught: Tensor) -> Tensor:
    """Kullback-Leibler's, averaged over the batch: (B, 3) logits, (B, 3) logits -> ()."""
    given, wanted = outputs.log_softmax(dim=1), taught.log_softmax(dim=1)
    return functional.kl_div(given, wanted, log_target=True, reduction="batchmean")


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of points whose ring is told."""
    return np.mean(outputs.argmax(axis=1) == labels)


metrics = {"accuracy": accuracy}
