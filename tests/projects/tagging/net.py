"""A recurrent network that tags words; the loss and the accuracy are those of the words, whatever fills up a batch."""

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from tests.projects.tagging.data_loader import PADDING, TAGS
from utils import Params


class Net(nn.Module):
    """(B, T) words -> {"logits": (B, T, 3), "is_word": (B, T)}."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.embedding = nn.Embedding(params.vocabulary_size, params.num_hidden, PADDING)
        self.recurrent = nn.GRU(params.num_hidden, params.num_hidden, batch_first=True)
        self.tags = nn.Linear(params.num_hidden, TAGS)

    def forward(self, words: Tensor) -> dict[str, Tensor]:
        """The mask goes with the logits: loss, metrics and predictions all need it."""
        hidden, _ = self.recurrent(self.embedding(words))
        return {"logits": self.tags(hidden), "is_word": words != PADDING}


def loss_fn(outputs: dict[str, Tensor], tags: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the words, its sum and how many they are."""
    is_word = outputs["is_word"]
    return functional.cross_entropy(outputs["logits"][is_word], tags[is_word], reduction="sum"), is_word.sum()


def accuracy(outputs: dict[str, np.ndarray], tags: np.ndarray) -> tuple[int, int]:
    """The words that are tagged right, and all of them."""
    is_right = outputs["logits"].argmax(axis=2) == tags
    return is_right[outputs["is_word"]].sum(), outputs["is_word"].sum()


metrics = {"accuracy": accuracy}


def predict(outputs: dict[str, Tensor], params: Params) -> dict[str, list[str]]:
    """The tags of each sentence, as long as it is."""
    lines = zip(outputs["logits"].argmax(dim=2), outputs["is_word"], strict=True)
    return {"tags": [" ".join(map(str, tags[is_word].tolist())) for tags, is_word in lines]}
