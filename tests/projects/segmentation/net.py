"""Two convolutions; cross-entropy, Dice and mean intersection over union of the pixels that count."""

import numpy as np
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.classification import MulticlassJaccardIndex

from tests.projects.segmentation.data_loader import IGNORED
from utils import Params


class Net(nn.Sequential):
    """(B, 1, H, W) pictures -> (B, 2, H, W) logits of background and object."""

    def __init__(self, params: Params) -> None:
        super().__init__(
            nn.Conv2d(1, params.num_channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(params.num_channels, 2, 3, padding=1),
        )


def loss_fn(outputs: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy, its sum and the pixels it is to be divided by: (B, 2, H, W), (B, H, W) -> (total, count)."""
    total = functional.cross_entropy(outputs, masks, ignore_index=IGNORED, reduction="sum")
    return total, (masks != IGNORED).sum()


def dice(outputs: np.ndarray, masks: np.ndarray) -> tuple[float, float]:
    """Twice the pixels that both call object, and all that either does: the quotient is that of the whole split."""
    counted = masks != IGNORED
    found, wanted = outputs.argmax(axis=1)[counted], masks[counted]  # (P,) of 0 and 1
    return 2 * np.sum(found * wanted), np.sum(found + wanted)


metrics = {"dice": dice, "mean_iou": MulticlassJaccardIndex(num_classes=2, ignore_index=IGNORED)}


def predict(outputs: Tensor, params: Params) -> dict[str, Tensor]:
    """The share of each picture that is object."""
    return {"object_share": outputs.argmax(dim=1).float().mean(dim=(1, 2))}
