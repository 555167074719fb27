"""What the network says of each example of a split: gathered batch by batch, written as a table."""

import csv
import itertools
import json
import logging
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import SequentialSampler

from engine.files import replacing
from engine.hyperparameters import Params
from engine.nested import count_examples
from engine.training.metric_objects import in_full
from engine.training.metrics import to_numpy
from engine.training.processes import Processes

MOST_TARGETS = 20  # numbers for each example that still make a table; more are a picture or a sequence
NO_TEXT = "backslashreplace"  # what becomes of bytes in a file name that are not UTF-8

Columns = dict[str, Any]


@dataclass
class Predictions:
    """The predictions for one split, by columns: `file`, `label`, and what the task's `predict` gives.

    The task's `report` gets them, with the network: one that writes texts has no line for each example.
    """

    split: str
    batches: Any
    params: Params
    predict: Callable[[Any, Params], Columns] | None
    model: nn.Module
    columns: dict[str, list[Any]] = field(default_factory=dict)
    examples: int = 0  # so far
    sizes: list[int] = field(default_factory=list)  # of the batches so far; of several processes, of this one's shares
    _indices: list[int] | None = field(default_factory=list)  # in the data set, where they are known of all
    _left_out: set[str] = field(default_factory=set)

    @property
    def classes(self) -> Sequence[str] | None:
        """The names of the classes, where the task learned them."""
        return class_names(self.params)

    def add(self, outputs: Any, labels: Any, examples: int | None = None, indices: Any = None) -> None:
        """Take one batch in: of so many examples, at these indices of their data set, where that is known."""
        number = examples or count_examples(labels if labels is not None else outputs)
        self.sizes.append(number)
        if not number:
            return
        if self.predict is None:
            columns = default_columns(outputs, labels, number, self.params)
        else:
            columns = {**label_columns(outputs, labels, self.classes), **self.predict(outputs, self.params)}
        for name, values in columns.items():
            values = _as_list(to_numpy(values))
            if len(values) == number:
                self.columns.setdefault(name, []).extend(values)
            elif name not in self._left_out:
                self._left_out.add(name)
                logging.warning(f'predictions: "{name}" is left out: {len(values)} values for {number} examples')
        self.examples += number
        if self._indices is not None:
            try:
                self._indices.extend(map(operator.index, indices))
            except TypeError:  # they are not known, or a data set that is asked for by something else
                self._indices = None

    def skip(self) -> None:
        """Take in a batch of which this process has no share."""
        self.sizes.append(0)

    def gather(self, processes: Processes) -> None:
        """Bring what several processes have into the first, in the order of the batches."""
        parts = processes.gather((self.columns, self._indices, self.sizes))
        if processes.count == 1 or not processes.is_first:
            return
        columns, indices, sizes = zip(*parts, strict=True)
        names = [name for name in columns[0] if all(name in part for part in columns if part)]
        self.examples = sum(map(sum, sizes))
        self.columns = {name: in_turn([part.get(name, []) for part in columns], sizes) for name in names}
        self._indices = None if None in indices else in_turn(indices, sizes)

    def finish(self) -> None:
        """Put the names of the examples in front, where the batches have them."""
        for name in [*self.columns]:
            if len(self.columns[name]) != self.examples:
                del self.columns[name]
        names = getattr(self.batches, "names", None)
        if names is None or not self.columns:
            return
        if (files := self._in_order(list(names))) is None:
            what = f"{len(names)} names for {self.examples} examples, in an order that cannot be told"
            logging.warning(f"predictions are without names: the batches have {what}")
        else:
            self.columns = {"file": files, **self.columns}

    def _in_order(self, names: list[Any]) -> list[Any] | None:
        """The name of each example; None where it cannot be told which is whose."""
        dataset, sampler = (getattr(self.batches, part, None) for part in ("dataset", "sampler"))
        if any(getattr(part, "is_sharded", False) for part in (self.batches, dataset)):
            return None
        sampler = getattr(getattr(self.batches, "batch_sampler", None), "sampler", sampler)
        if self._indices is not None and len(self._indices) == self.examples and len(names) == _length(dataset):
            return [names[index] for index in self._indices]
        if sampler is not None and not isinstance(sampler, SequentialSampler):
            return None
        limited = self.params.max_eval_batches is not None
        return names[: self.examples] if limited or len(names) == self.examples else None

    def write(self, path: Path) -> None:
        """Write the table as CSV, one line per example; no file if there is nothing to write."""
        if not self.columns:
            return
        write_table(path, [*self.columns], zip(*self.columns.values(), strict=True))


def in_turn(parts: Sequence[Sequence[Any]], sizes: Sequence[Sequence[int]]) -> list[Any]:
    """What several processes have of each example, in the order of the batches: of each, they had every so-manieth row.

    Where a process has not all of it, what is left is too short to be believed.

    >>> in_turn(["acd", "b"], [[2, 1], [1, 0]])
    ['a', 'b', 'c', 'd']
    """
    rests = [iter(part) for part in parts]
    turns = (
        rest
        for shares in zip(*sizes, strict=True)
        for row in range(max(shares))
        for rest, size in zip(rests, shares, strict=True)
        if row < size
    )
    return list(itertools.chain(*(itertools.islice(rest, 1) for rest in turns)))


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as CSV, or with a JSON object in each line where the file is called `.jsonl`."""
    with replacing(path) as file:
        if path.suffix == ".jsonl":
            for row in rows:
                file.write(
                    f"{json.dumps(dict(zip(header, row, strict=True)), ensure_ascii=False)}\n".encode(errors=NO_TEXT)
                )
            return
        lines = csv.writer(_Encoded(file), lineterminator="\n")
        lines.writerow(header)
        lines.writerows(rows)


def default_columns(outputs: Any, labels: Any, number: int, params: Params) -> Columns:
    """What a table says of `number` examples whose task has no `predict` of its own.

    The class and its probability for `(B, C)` outputs whose labels are whole numbers, or whose C classes are known;
    else the numbers themselves, one for each target. A picture or a sequence is no line of a table.
    """
    if not isinstance(outputs, Tensor) or outputs.dim() > 2:
        return {}
    classes = class_names(params)
    outputs = outputs.detach()
    if number == 1 and outputs.dim() < 2:  # as `squeeze()` leaves a batch of one
        outputs = outputs.reshape(1, -1)
    if outputs.shape[:1] != (number,):  # whose is which cannot be told
        return {**label_columns(outputs, labels, classes), "prediction": outputs}
    if _are_classes(outputs, labels, classes):
        probabilities, indices = torch.softmax(in_full(outputs), dim=1).max(dim=1)
        told = {"prediction": label_names(indices, classes), "probability": to_numpy(probabilities)}
        return told if labels is None else {"label": label_names(labels.reshape(number), classes), **told}
    return {**label_columns(outputs, labels, classes), **_numbers("prediction", outputs, classes)}


def label_columns(outputs: Any, labels: Any, classes: Sequence[str] | None) -> Columns:
    """The labels of a batch, one column for each target; none where they are no line of a table."""
    if not isinstance(labels, Tensor):
        return {}
    if labels.dim() == 1:
        return {"label": label_names(labels, classes) if classes else to_numpy(labels)}
    same = isinstance(outputs, Tensor) and outputs.shape == labels.shape
    return _numbers("label", labels, classes) if same or labels.shape[1:] == (1,) else {}


def _are_classes(outputs: Tensor, labels: Any, classes: Sequence[str] | None) -> bool:
    """Whether `(B, C)` outputs are scores of classes, of which one is right."""
    if outputs.dim() != 2 or outputs.shape[1] < 2 or not outputs.is_floating_point():
        return False
    if labels is None:
        return classes is not None and len(classes) == outputs.shape[1]
    return isinstance(labels, Tensor) and not labels.is_floating_point() and labels.numel() == len(outputs)


def _numbers(name: str, values: Tensor, classes: Sequence[str] | None) -> Columns:
    """`(B,)` and `(B, 1)` values as a column, `(B, T)` ones as one for each target, by its class if that has a name."""
    rows = in_full(values.detach()).reshape(len(values), -1)
    targets = rows.shape[1]
    if targets > MOST_TARGETS:
        return {}
    names = classes if classes is not None and len(classes) == targets else range(targets)
    return {name if targets == 1 else f"{name}_{target}": rows[:, place] for place, target in enumerate(names)}


def label_names(indices: Tensor, classes: Sequence[str] | None) -> list[Any]:
    """Class names in place of indices, where there are names; a label that is ignored, below 0, is blank."""
    if indices.is_floating_point():
        return indices.tolist()
    known = len(classes or ())
    return ["" if i < 0 else classes[i] if classes and i < known else i for i in indices.tolist()]


def class_names(params: Params) -> Sequence[str] | None:
    """The names of the classes, where the task has set some; their number alone names none."""
    classes = getattr(params, "classes", None)
    classes = classes.tolist() if isinstance(classes, np.ndarray) else classes
    return classes if isinstance(classes, list | tuple) else None


def _as_list(values: Any) -> list[Any]:
    """The values of a column, one for each example; of a single one, a list of one."""
    if isinstance(values, list | tuple):
        return [value.tolist() if hasattr(value, "tolist") else value for value in values]
    return np.atleast_1d(np.asarray(values)).tolist()


def _length(dataset: Any) -> int | None:
    return len(dataset) if hasattr(dataset, "__len__") else None


class _Encoded:
    """The text that `csv` writes, as UTF-8 into a binary file."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, text: str) -> int:
        return self.file.write(text.encode(errors=NO_TEXT))
