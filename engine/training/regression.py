"""What is left for people after a regression was evaluated: a picture of what was predicted against what is true."""

import logging
import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engine.training.predictions import Predictions

MOST_TARGETS = 9  # that are drawn, three in a row


def write_report(predictions: Predictions, folder: Path) -> None:
    """Write `predicted_{split}.png` into `folder`; log the root mean square error of each target."""
    pairs = targets(predictions)
    if not pairs:
        logging.info("%s: no picture, as the predictions have no numbers beside labels", predictions.split)
        return
    for name, (labels, guesses) in pairs.items():
        logging.info("%s: %s", predictions.split, error_line(name, labels, guesses))
    predicted_figure(pairs, predictions.split).savefig(folder / f"predicted_{predictions.split}.png")


def targets(predictions: Predictions) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The labels and the predictions of each target, (N,) each, by its name."""
    columns = predictions.columns
    names = [name.removeprefix("label") for name in columns if name.startswith("label")]
    pairs = {}
    for name in names:
        try:
            both = [np.array(columns[f"{kind}{name}"], dtype=np.float64) for kind in ("label", "prediction")]
        except (KeyError, ValueError):  # nothing beside it, or no number
            continue
        pairs[name.removeprefix("_") or "label"] = (both[0], both[1])
    return pairs


def error_line(name: str, labels: np.ndarray, guesses: np.ndarray) -> str:
    """The error of one target, beside that of always guessing its mean."""
    error, spread = (math.sqrt(np.mean(np.square(labels - some))) for some in (guesses, labels.mean()))
    return f"{name}: root mean square error {error:.4g}; {spread:.4g} if it were always the mean"


def predicted_figure(pairs: dict[str, tuple[np.ndarray, np.ndarray]], split: str) -> Figure:
    """Predicted against true, one panel for each target; on the line they are equal."""
    shown = list(pairs.items())[:MOST_TARGETS]
    columns = min(3, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(4.6 * columns, 4.6 * rows + 0.4), dpi=110, layout="constrained")
    more = f", {len(shown)} of {len(pairs)} targets" if len(pairs) > len(shown) else ""
    figure.suptitle(f"{split}: predicted against true, {len(shown[0][1][0])} examples{more}", fontsize=12)
    for place, (name, (labels, guesses)) in enumerate(shown, start=1):
        draw(figure.add_subplot(rows, columns, place), labels, guesses)
        if len(pairs) > 1:
            figure.axes[-1].set_title(name, fontsize=10, parse_math=False)
    return figure


def draw(axes: Axes, labels: np.ndarray, guesses: np.ndarray) -> None:
    """Both axes have one range, so that what is systematically too high or too low is off the diagonal."""
    finite = np.isfinite(labels) & np.isfinite(guesses)
    labels, guesses = labels[finite], guesses[finite]
    low, high = min(labels.min(), guesses.min()), max(labels.max(), guesses.max())
    margin = 0.04 * (high - low) or 1.0
    ends = (low - margin, high + margin)
    axes.plot(ends, ends, color="0.6", linewidth=1, zorder=1)
    axes.scatter(labels, guesses, s=14, alpha=max(0.15, min(0.8, 60 / len(labels))), linewidths=0, zorder=2)
    axes.set(xlim=ends, ylim=ends, xlabel="true", ylabel="predicted", aspect="equal")
    axes.spines[["top", "right"]].set_visible(False)
