"""The learning curves of runs, as their logs have them; thinned where a page of all points could not be sent around."""

from collections.abc import Sequence
from typing import Any

from engine.experiment import LARGEST, SAMPLED
from engine.hyperparameters import Values

Curves = dict[str, list[float | None]]  # a value or None per epoch, by name

MOST_NUMBERS = 500_000  # of the curves of all runs together: two megabytes of the page
MOST_EPOCHS = 1000  # of one run: more than a screen has columns
FEWEST_EPOCHS = 10


def number(value: Any) -> float | None:
    """The value if it is a number that can be computed with, else None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and abs(value) < LARGEST else None


def curves_of(rows: Sequence[Values]) -> Curves:
    """The columns of `metrics.jsonl` that hold numbers: a value or None per epoch."""
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        if any(
            type(value) is not float or not abs(value) < LARGEST for value in values
        ):  # else each is as it should be
            values = [number(value) for value in values]
        if any(value is not None for value in values):
            columns[name] = values
    return columns


def sampled_in(rows: Sequence[Values]) -> list[str]:
    """The columns of `metrics.jsonl` that are of some batches only, in any of the epochs."""
    named = [name for row in rows if isinstance(names := row.get(SAMPLED), list) for name in names]
    return list(dict.fromkeys(name for name in named if isinstance(name, str)))


def epochs_kept(curves: Sequence[Curves]) -> int:
    """How many epochs of each run there is room for."""
    columns = sum(map(len, curves))
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, MOST_NUMBERS // max(columns, 1)))


def shown(curves: Curves, most: int) -> Curves:
    """Curves as a page shows them: some `most` of their epochs, numbers to the six digits that one sees."""
    kept = thinned(curves, most)
    return {name: [None if one is None else float(f"{one:.6g}") for one in curve] for name, curve in kept.items()}


def thinned(curves: Curves, most: int) -> Curves:
    """Some `most` of the epochs, evenly: both ends stay, and where a validation score is at its highest and lowest."""
    length = max(map(len, curves.values()), default=0)
    if length <= most:
        return curves
    scores = [curve for name, curve in curves.items() if name.startswith("val_")]
    told = [place for place in range(length) if not scores or any(curve[place] is not None for curve in scores)]
    keep = {0, length - 1, told[0], told[-1]}
    for curve in scores:
        known = [(value, place) for place, value in enumerate(curve) if value is not None]
        keep |= {min(known)[1], max(known)[1]}
    even = max(most - len(keep), 0) + 2  # with both ends
    keep |= {told[place * (len(told) - 1) // (even - 1)] for place in range(even)}
    return {name: [curve[place] for place in sorted(keep)] for name, curve in curves.items()}
