"""An LSTM that tags the words of a sentence; loss and scores count words, whatever fills up a batch."""

import itertools
import logging
import operator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nervaluate import Evaluator
from torch import Tensor, nn
from torch.nn import functional

from utils import Params

UNKNOWN = "UNK"
WORST = 30  # sentences that are shown
Outputs = dict[str, Tensor]


class Net(nn.Module):
    """((B, T) words, (B,) lengths of the sentences) -> {"logits": (B, T, tags), "lengths": (B,)}."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        size, hidden = params.embedding_dim, params.lstm_hidden_dim
        directions = 2 if getattr(params, "bidirectional", False) else 1
        self.unknown = params.words.index(UNKNOWN)
        self.word_dropout = getattr(params, "word_dropout", 0.0)
        self.embedding = nn.Embedding(len(params.words), size)
        self.dropout = nn.Dropout(getattr(params, "dropout_rate", 0.0))
        self.lstms = nn.ModuleList(nn.LSTM(size, hidden, batch_first=True) for _ in range(directions))
        self.fc = nn.Linear(directions * hidden, len(params.tags))

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Outputs:
        """The second LSTM, where there is one, reads each sentence from its last word back to its first.

        LSTM's own `bidirectional` would begin with what fills up the batch, unless packed, which is 3 times slower.
        """
        words, lengths = inputs
        if self.training and self.word_dropout:  # so that it learns what to make of words it does not know
            words = words.where(torch.rand(words.shape, device=words.device) >= self.word_dropout, self.unknown)
        embedded = self.dropout(self.embedding(words))  # (B, T, embedding_dim)
        hidden = [self.lstms[0](embedded)[0]]  # (B, T, lstm_hidden_dim); the padding comes too late to matter
        if len(self.lstms) == 2:
            steps = torch.arange(words.shape[1], device=words.device)
            back = ((lengths[:, None] - 1 - steps) % len(steps))[:, :, None]  # (B, T, 1): last, last but one, ...
            hidden.append(self.lstms[1](embedded.take_along_dim(back, dim=1))[0].take_along_dim(back, dim=1))
        return {"logits": self.fc(self.dropout(torch.cat(hidden, dim=2))), "lengths": lengths}


def loss_fn(outputs: Outputs, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy, its sum over the words and how many they are; labels are -100 where there is no word."""
    logits = outputs["logits"].flatten(0, 1)  # (B * T, tags)
    return functional.cross_entropy(logits, labels.flatten(), reduction="sum"), (labels >= 0).sum()


def accuracy(outputs: dict[str, np.ndarray], labels: np.ndarray) -> tuple[int, int]:
    """The words that are tagged right, and all of them."""
    return (outputs["logits"].argmax(axis=2) == labels).sum(), (labels >= 0).sum()


class EntityF1:
    """F1, precision and recall of whole entities, which are right if their first and last word and their kind are.

    The tags are kept where they were computed, and turned into entities once per split.
    """

    def __init__(self, tags: list[str]) -> None:
        self.tags = tags
        self.reset()

    def reset(self) -> None:
        """Forget all sentences."""
        self.batches: list[Tensor] = []

    def update(self, outputs: Outputs, labels: Tensor) -> None:
        """Keep the labels and the predicted tags of a batch."""
        self.batches.append(torch.stack([labels, outputs["logits"].argmax(dim=2)]))  # (2, B, T)

    def state_dict(self) -> dict[str, Any]:
        """What was kept."""
        return {"batches": self.batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.batches = list(state["batches"])

    def compute(self) -> dict[str, float]:
        """The scores over all sentences."""
        labelled, predicted = [], []
        for labels, tags in (batch.tolist() for batch in self.batches):
            lengths = [sum(label >= 0 for label in row) for row in labels]
            labelled += names_of(labels, lengths, self.tags)
            predicted += names_of(tags, lengths, self.tags)
        evaluator = entity_evaluator(labelled, predicted, self.tags)
        evaluator.strategies = {"strict": evaluator.strategies["strict"]}  # of four ways to count, the usual one
        scores = evaluator.evaluate()["overall"]["strict"]
        return {"f1": scores.f1, "precision": scores.precision, "recall": scores.recall}


def names_of(rows: list[list[int]], lengths: list[int], tags: list[str]) -> list[list[str]]:
    """The names of the tags of each sentence, without what fills up the batch."""
    return [[tags[number] for number in row[:length]] for row, length in zip(rows, lengths, strict=True)]


def entity_evaluator(labelled: list[list[str]], predicted: list[list[str]], tags: list[str]) -> Evaluator:
    """What compares entities; one that begins with I- is taken for one that begins with B-.

    Of plain tags, such as PER, neighbours that are alike are one entity.
    """
    sentences = ([[marked(tag) for tag in row] for row in rows] for rows in (labelled, predicted))
    return Evaluator(*sentences, tags=sorted({marked(tag)[2:] for tag in tags if tag != "O"}), loader="list")


def marked(tag: str) -> str:
    """A tag with the mark that a plain one lacks."""
    return tag if tag == "O" or tag.startswith(("B-", "I-")) else f"I-{tag}"


def metrics(params: Params) -> dict[str, Any]:
    """Accuracy over words, and the scores of entities, which always guessing "O" leaves at 0."""
    return {"accuracy": accuracy, "f1": EntityF1(params.tags)}


def predict(outputs: Outputs, params: Params) -> dict[str, list[str]]:
    """The tags of each sentence, in a line as in labels.txt."""
    rows, lengths = outputs["logits"].argmax(dim=2).tolist(), outputs["lengths"].tolist()
    return {"tags": [" ".join(names) for names in names_of(rows, lengths, params.tags)]}


def report(predictions: Any, folder: Path) -> None:
    """The table of the kinds of entities in the log; a picture of the confusions of tags, and the worst sentences."""
    from engine.training import classification

    predicted = [line.split(" ") for line in predictions.columns["tags"]]
    tags = predictions.params.tags
    labelled = [[tags[label] for label in labels] for _, labels in predictions.batches.dataset][: len(predicted)]
    logging.info(entity_evaluator(labelled, predicted, tags).summary_report(mode="entities"))
    counts = np.zeros((len(tags), len(tags)), dtype=np.int64)
    for true, guess in zip(itertools.chain(*labelled), itertools.chain(*predicted), strict=True):
        counts[tags.index(true), tags.index(guess)] += 1
    classification.confusion_figure(counts, tags, predictions.split).savefig(
        folder / f"confusion_{predictions.split}.png"
    )
    text = worst_sentences(predictions.batches.names, labelled, predicted)
    (folder / f"worst_{predictions.split}.txt").write_text(text, encoding="utf-8")


def worst_sentences(sentences: list[str], labelled: list[list[str]], predicted: list[list[str]]) -> str:
    """Those with the most words that are tagged wrong, each word above its tag and the one that was predicted."""
    wrong = [sum(map(operator.ne, *rows)) for rows in zip(labelled, predicted, strict=True)]
    order = sorted((place for place in range(len(wrong)) if wrong[place]), key=lambda place: -wrong[place])
    parts = [f"{len(order)} of {len(wrong)} sentences have a wrong tag\n"]
    for place in order[:WORST]:
        rows = [["", *sentences[place].split(" ")], ["true", *labelled[place]], ["predicted", *predicted[place]]]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
        parts.append(
            f"{wrong[place]} of {len(labelled[place])} wrong, sentence {place + 1}\n" + "\n".join(lines) + "\n"
        )
    return "\n".join(parts)
