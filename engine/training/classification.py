"""What is left for people after a classification was evaluated: a table of classes, and pictures of what went wrong."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from tabulate import tabulate

from engine.training.predictions import Predictions, write_table

MOST_CLASSES_WITH_COUNTS = 25
MOST_CLASSES_WITH_NAMES = 60
MISTAKES_SHOWN = 32
COLUMNS = 8
LONGEST_NAME = 18
MOST_ROWS, WORST = 42, 20  # of the table on the screen
HEADERS = ["class", "precision", "recall", "F1", "support"]
ALIGNED: dict[str, Any] = {"colalign": ("left", *["right"] * 4), "disable_numparse": [0]}


def write_report(predictions: Predictions, folder: Path) -> None:
    """Log the table of classes; leave it whole in `classes_{split}.csv`, and two pictures beside it.

    They are `confusion_{split}.png` and `mistakes_{split}.png`, as far as there are columns to draw them from.
    """
    rows, split = labelled_rows(predictions), predictions.split
    if not rows:
        logging.info("%s: no table of classes, as the predictions have no labels beside classes", split)
        return
    labels, guesses = ([str(predictions.columns[name][row]) for row in rows] for name in ("label", "prediction"))
    classes = [str(name) for name in predictions.classes or sorted({*labels, *guesses}, key=_by_number)]
    table = class_table(labels, guesses, classes)
    write_table(folder / f"classes_{split}.csv", HEADERS, table)
    shown = table if len(table) <= MOST_ROWS else [*sorted(table[:-1], key=_f1)[:WORST], table[-1]]
    which = "by class" if shown is table else f"the {WORST} classes with the lowest F1 of {len(table) - 1}"
    logging.info("%s, %s:\n%s", split, which, tabulate(shown, HEADERS, floatfmt=".3f", **ALIGNED))
    counts = confusion_matrix(labels, guesses, labels=classes)
    confusion_figure(counts, classes, split).savefig(folder / f"confusion_{split}.png")
    if _shows_images(predictions.batches):
        mistakes_figure(predictions, rows).savefig(folder / f"mistakes_{split}.png")


def labelled_rows(predictions: Predictions) -> list[int]:
    """The rows with a label, none if there are no labels or if something else than classes was predicted."""
    labels, guesses = predictions.columns.get("label"), predictions.columns.get("prediction")
    if labels is None or guesses is None:
        return []
    rows = [row for row, label in enumerate(labels) if label != ""]  # those to be ignored are blank
    if len(rows) < len(labels):
        logging.info("%s: %d of %d have no label", predictions.split, len(labels) - len(rows), len(labels))
    known = None if predictions.classes is None else {str(name) for name in predictions.classes}
    return rows if known is None or all(str(guesses[row]) in known for row in rows) else []


def class_table(labels: Sequence[str], guesses: Sequence[str], classes: Sequence[str]) -> list[list[Any]]:
    """Precision, recall, F1 and support of the classes that occur, and their plain mean in the last row."""
    there = {*labels, *guesses}
    classes = [name for name in classes if name in there]
    scores = precision_recall_fscore_support(labels, guesses, labels=classes, zero_division=0)
    rows: list[list[Any]] = [[name, *values, int(count)] for name, *values, count in zip(classes, *scores, strict=True)]
    return [*rows, ["mean", *(float(np.mean(values)) for values in scores[:3]), len(labels)]]


def _f1(row: list[Any]) -> float:
    return row[3]


def _by_number(name: str) -> tuple[int, str]:
    return (int(name), name) if name.isdecimal() else (-1, name)


def confusion_figure(counts: np.ndarray, classes: Sequence[str], split: str) -> Figure:
    """The matrix of true (rows) and predicted (columns) classes, shaded by the share of the true class."""
    number = len(classes)
    side = 3.0 + min(max(0.5 * number, 2.5), 14.0)
    figure = Figure(figsize=(side + 0.8, side), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046, pad=0.03)
    correct = np.trace(counts)
    axes.set_title(f"{split}: {correct} of {counts.sum()} right")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if number <= MOST_CLASSES_WITH_COUNTS:
        _write_counts(axes, counts, shares)
    step = math.ceil(number / MOST_CLASSES_WITH_NAMES)  # of more classes, each second or third is named
    places, names = range(0, number, step), [_short(name) for name in classes[::step]]
    upright = max(map(len, names)) > 2
    axes.set_xticks(places, names, rotation=90 if upright else 0)
    axes.set_yticks(places, names)
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set_parse_math(False)  # a class may be called $a or b_1$
    axes.tick_params(length=0, labelsize=10 if number <= MOST_CLASSES_WITH_COUNTS else 7)
    axes.spines[:].set_visible(False)
    return figure


def _write_counts(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    for row, column in zip(*np.nonzero(counts), strict=True):
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=color, fontsize=9)
    axes.set_xticks(np.arange(len(counts) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(counts) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.92", linewidth=0.8)
    axes.tick_params(which="minor", length=0)


def mistakes_figure(predictions: Predictions, rows: Sequence[int]) -> Figure:
    """The wrong ones among the predictions of some rows, those first that the network was surest of."""
    labels, guesses = predictions.columns["label"], predictions.columns["prediction"]
    sureness = predictions.columns.get("probability")
    wrong = [row for row in rows if str(labels[row]) != str(guesses[row])]
    worst = (wrong if sureness is None else sorted(wrong, key=lambda row: -sureness[row]))[:MISTAKES_SHOWN]
    if not worst:
        figure = Figure(figsize=(6, 1.6), dpi=110)
        text = f"{predictions.split}: no mistakes in {len(rows)} images"
        figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=13)
        return figure

    columns = min(COLUMNS, max(len(worst), 3))
    lines = math.ceil(len(worst) / columns)
    figure = Figure(figsize=(1.7 * columns, 2.15 * lines + 0.7), dpi=110, layout="constrained")
    shown = f"{len(worst)} of them" if len(wrong) > len(worst) else "all of them"
    shown += ", the surest first" if sureness is not None else ""
    figure.suptitle(f"{predictions.split}: {len(wrong)} of {len(rows)} wrong, {shown}", fontsize=12)
    for place, row in enumerate(worst, start=1):
        axes = figure.add_subplot(lines, columns, place)
        axes.imshow(_pixels(predictions.batches, row), cmap="gray", vmin=0, vmax=255)
        title = f"true {_short(labels[row])}\npredicted {_short(guesses[row])}"
        title += f"\n{sureness[row]:.0%} sure" if sureness is not None else ""
        axes.set_title(title, fontsize=8, parse_math=False)
        axes.set_axis_off()
    return figure


def _shows_images(batches: Any) -> bool:
    """Whether there are resident images, grey or in colour."""
    images = getattr(batches, "tensors", (None,))[0]
    return images is not None and images.dim() == 4 and images.shape[1] in (1, 3) and images.dtype == torch.uint8


def _pixels(batches: Any, row: int) -> np.ndarray:
    """The image of one row of the split, as matplotlib draws it: (H, W) or (H, W, 3), uint8."""
    pixels = batches.tensors[0][batches.rows[row]].cpu().numpy()  # (C, H, W)
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)


def _short(name: Any) -> str:
    text = str(name)
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"
