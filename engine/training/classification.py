"""What is left for people after a classification was evaluated: a table of classes, and pictures of what went wrong."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from tabulate import tabulate

from engine.training.predictions import Predictions

MOST_CLASSES_WITH_COUNTS = 25
MOST_CLASSES_WITH_NAMES = 60
MISTAKES_SHOWN = 32
COLUMNS = 8
LONGEST_NAME = 18


def write_report(predictions: Predictions, folder: Path) -> None:
    """Log the table; write `confusion_{split}.png` and `mistakes_{split}.png` into `folder`."""
    classes = [str(name) for name in predictions.classes or ()]
    labels, guesses = predictions.columns["label"], predictions.columns["prediction"]
    logging.info("%s, by class:\n%s", predictions.split, class_table(labels, guesses, classes))
    confusion = confusion_figure(confusion_matrix(labels, guesses, labels=classes), classes, predictions.split)
    confusion.savefig(folder / f"confusion_{predictions.split}.png")
    mistakes_figure(predictions).savefig(folder / f"mistakes_{predictions.split}.png")


def class_table(labels: Sequence[str], guesses: Sequence[str], classes: Sequence[str]) -> str:
    """Precision, recall, F1 and support of each class, and their plain mean in the last row."""
    scores = precision_recall_fscore_support(labels, guesses, labels=list(classes), zero_division=0)
    rows: list[list[Any]] = [[name, *values, int(count)] for name, *values, count in zip(classes, *scores, strict=True)]
    means = [float(np.mean(values)) for values in scores[:3]]
    rows.append(["mean", *means, len(labels)])
    headers = ["class", "precision", "recall", "F1", "support"]
    return tabulate(rows, headers, floatfmt=".3f", colalign=("left", *["right"] * 4), disable_numparse=[0])


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


def mistakes_figure(predictions: Predictions) -> Figure:
    """The wrong predictions that the network was surest of, each with its true and its predicted class."""
    labels, guesses = predictions.columns["label"], predictions.columns["prediction"]
    sureness = predictions.columns["probability"]
    wrong = [row for row, (label, guess) in enumerate(zip(labels, guesses, strict=True)) if label != guess]
    worst = sorted(wrong, key=lambda row: -sureness[row])[:MISTAKES_SHOWN]
    if not worst:
        figure = Figure(figsize=(6, 1.6), dpi=110)
        text = f"{predictions.split}: no mistakes in {len(labels)} images"
        figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=13)
        return figure

    columns = min(COLUMNS, max(len(worst), 3))
    rows = math.ceil(len(worst) / columns)
    figure = Figure(figsize=(1.7 * columns, 2.15 * rows + 0.7), dpi=110, layout="constrained")
    shown = f"the {len(worst)} of which the network was surest" if len(wrong) > len(worst) else "the surest first"
    figure.suptitle(f"{predictions.split}: {len(wrong)} of {len(labels)} wrong, {shown}", fontsize=12)
    for place, row in enumerate(worst, start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(_pixels(predictions.batches, row), cmap="gray", vmin=0, vmax=255)
        title = f"true {_short(labels[row])}\npredicted {_short(guesses[row])}\n{sureness[row]:.0%} sure"
        axes.set_title(title, fontsize=8, parse_math=False)
        axes.set_axis_off()
    return figure


def _pixels(batches: Any, row: int) -> np.ndarray:
    """The image of one row of the split, as matplotlib draws it: (H, W) or (H, W, 3), uint8."""
    pixels = batches.tensors[0][batches.rows[row]].cpu().numpy()  # (C, H, W)
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)


def _short(name: Any) -> str:
    text = str(name)
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"
