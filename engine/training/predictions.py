"""What the network says of each example of a split: gathered batch by batch, written as a table."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.files import replacing
from engine.hyperparameters import Params
from engine.training.metrics import to_numpy

Columns = dict[str, Any]


@dataclass
class Predictions:
    """The predictions for one split, by columns: `file`, `label`, and what the task's `predict` gives.

    The task's `report` gets them, with the network: one that writes texts has no line for each example.
    """

    split: str
    batches: Any
    params: Params
    predict: Callable[[Any, Params], Columns]
    model: nn.Module
    columns: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def classes(self) -> Sequence[str] | None:
        """The names of the classes, where the task learned them."""
        return getattr(self.params, "classes", None)

    def add(self, outputs: Any, labels: Any) -> None:
        """Take one batch in."""
        columns = dict(self.predict(outputs, self.params))
        if isinstance(labels, Tensor) and labels.dim() == 1:
            columns = {"label": label_names(labels, self.classes), **columns}
        for name, values in columns.items():
            self.columns.setdefault(name, []).extend(np.asarray(to_numpy(values)).tolist())

    def finish(self) -> None:
        """Put the names of the examples in front, where the batches have them."""
        names = getattr(self.batches, "names", None)
        if names is not None:
            seen = max((len(values) for values in self.columns.values()), default=0)  # fewer with `max_eval_batches`
            self.columns = {"file": list(names)[:seen], **self.columns}

    def write(self, path: Path) -> None:
        """Write the table as CSV, one line per example; no file if there is nothing to write."""
        if not self.columns:
            return
        with replacing(path) as file:
            lines = csv.writer(_Encoded(file), lineterminator="\n")
            lines.writerow(self.columns)
            lines.writerows(zip(*self.columns.values(), strict=True))


def default_predict(outputs: Any, params: Params) -> Columns:
    """The class and its probability for `(B, C)` outputs; the number itself for `(B,)` or `(B, 1)`; else nothing.

    A picture or a sequence is no line of a table: what to write of it, the task's own `predict` says.
    """
    if not isinstance(outputs, Tensor) or outputs.dim() not in (1, 2):
        return {}
    outputs = outputs.detach().float()
    if outputs.dim() == 2 and outputs.shape[1] > 1:
        probabilities, indices = torch.softmax(outputs, dim=1).max(dim=1)
        classes = getattr(params, "classes", None)
        return {"prediction": label_names(indices, classes), "probability": to_numpy(probabilities)}
    return {"prediction": to_numpy(outputs.reshape(len(outputs)))}


def label_names(indices: Tensor, classes: Sequence[str] | None) -> list[Any]:
    """Class names in place of indices, where there are names."""
    numbers = indices.tolist()
    if classes is None or indices.is_floating_point():
        return numbers
    return [classes[number] for number in numbers]


class _Encoded:
    """The text that `csv` writes, as UTF-8 into a binary file."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, text: str) -> int:
        return self.file.write(text.encode())
