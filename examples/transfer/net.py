"""A ResNet-18 that has seen a million photographs, with a new last layer for the classes at hand."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torchvision.models import ResNet18_Weights, resnet18

from engine.errors import UserError
from engine.training import download_errors_explained
from utils import Params

WEIGHTS = ResNet18_Weights.IMAGENET1K_V1


class Net(nn.Module):
    """(B, 3, 224, 224) images -> (B, classes) logits."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.backbone = resnet18()
        if getattr(params, "begins", False) and params.init_from is None:  # else a checkpoint brings the weights
            load_pretrained(self.backbone)
        self.backbone.fc = nn.Identity()
        self.backbone.requires_grad_(not params.freeze)
        self.head = nn.Linear(512, len(params.classes))

    def forward(self, images: Tensor) -> Tensor:
        """What the photographs have taught it to see, then what that means here."""
        features = self.backbone(images)  # -> (B, 512)
        return self.head(features)


def load_pretrained(network: nn.Module) -> None:
    """Torchvision's weights, from its cache or over the network."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(WEIGHTS.url).name
    if not file.is_file():
        with download_errors_explained(f"{file}, the weights of ResNet-18,", f"put it there, from {WEIGHTS.url}"):
            WEIGHTS.get_state_dict(progress=False, check_hash=True, weights_only=True)
    try:
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # a file cut short, a web page or other weights raise almost anything
        reason = str(error).partition("\n")[0].rstrip(".:") or type(error).__name__
        raise UserError(f"{file}: no weights of ResNet-18 ({reason}); delete it, then they are downloaded") from error


def configure_optimizer(model: Net, params: Params) -> Optimizer:
    """AdamW, by which the last layer learns at `learning_rate` and the pretrained ones, unless frozen, more slowly."""
    groups = [{"params": model.head.parameters(), "lr": params.learning_rate}]
    if not params.freeze:
        groups.append({"params": model.backbone.parameters(), "lr": params.backbone_learning_rate})
    return torch.optim.AdamW(groups, weight_decay=params.weight_decay)


def loss_fn(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of (B, classes) logits and (B,) labels."""
    return functional.cross_entropy(outputs, labels)


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows whose largest logit is that of the label."""
    return float(np.mean(np.argmax(outputs, axis=1) == labels))


metrics = {"accuracy": accuracy}


def report(predictions: Any, folder: Path) -> None:
    """A table of the classes in the log, and pictures of the confusions and of the worst mistakes in `folder`."""
    from engine.training import classification

    classification.write_report(predictions, folder)
