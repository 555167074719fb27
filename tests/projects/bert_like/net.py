"""A small transformer whose `forward` computes the loss itself, given labels."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from utils import Params


class ModelOutput(NamedTuple):
    """What the model returns."""

    loss: Tensor | None
    logits: Tensor


class Net(nn.Module):
    """(B, T) token numbers and their (B, T) mask -> (B, 2) logits, and the loss if there are labels."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.embedding = nn.Embedding(params.vocab_size, 16, padding_idx=0)
        self.encoder = nn.TransformerEncoderLayer(16, nhead=2, dim_feedforward=32, dropout=0.0, batch_first=True)
        self.classifier = nn.Linear(16, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> ModelOutput:
        hidden = self.encoder(self.embedding(input_ids), src_key_padding_mask=~attention_mask)  # (B, T, 16)
        logits = self.classifier((hidden * attention_mask[:, :, None]).sum(dim=1) / attention_mask.sum(1, True))
        return ModelOutput(None if labels is None else functional.cross_entropy(logits, labels), logits)


def step(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor], params: Params) -> tuple[Tensor, Tensor, Tensor]:
    """The loss is the model's own."""
    input_ids, attention_mask, labels = batch
    output = model(input_ids=input_ids, attention_mask=attention_mask, labels=labels)
    return output.loss, output.logits, labels


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of sentences that are classified right."""
    return np.mean(outputs.argmax(axis=1) == labels)


metrics = {"accuracy": accuracy}


def configure_optimizer(model: nn.Module, params: Params) -> torch.optim.Optimizer:
    """`optimizer` of params.json, with weight decay for the matrices alone, as transformers are usually trained."""
    weights = list(model.parameters())
    groups = [
        {"params": [w for w in weights if w.dim() > 1], "weight_decay": params.weight_decay or 0.0},
        {"params": [w for w in weights if w.dim() <= 1], "weight_decay": 0.0},
    ]
    return getattr(torch.optim, params.optimizer)(groups, lr=params.learning_rate)
