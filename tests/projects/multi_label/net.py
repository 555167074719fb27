"""A linear classifier of several labels, scored by ranks over the whole split, which no mean over batches can give."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.classification import MultilabelAUROC

from tests.projects.multi_label.data_loader import FEATURES
from utils import Params


class Net(nn.Linear):
    """(B, 6) features -> (B, topics) logits."""

    def __init__(self, params: Params) -> None:
        super().__init__(FEATURES, len(params.topics))


loss_fn = functional.binary_cross_entropy_with_logits


class AUROC(MultilabelAUROC):
    """Takes logits and labels as the loss does: torchmetrics wants whole numbers, and would guess from each batch
    whether it is given logits or probabilities."""

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        """Take a batch in: (B, topics) logits, (B, topics) labels."""
        super().update(outputs.sigmoid(), labels.long())


def metrics(params: Params) -> dict[str, Any]:
    """The area under the curve of each topic, averaged."""
    return {"auroc": AUROC(len(params.topics))}


def predict(outputs: Tensor, params: Params) -> dict[str, Tensor]:
    """The probability of each topic."""
    return dict(zip(params.topics, outputs.float().sigmoid().T, strict=True))
