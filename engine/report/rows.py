"""The table of the report: its columns, and a row of cells for each experiment and for each group of seeds."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any, NamedTuple

from engine.comparison import Group, direction, measure, repeated_axes, summarize, verdicts
from engine.experiment import Entry
from engine.hyperparameters import Values
from engine.report.facts import number
from engine.report.search import varied_params

NOT_BEGUN = "not begun"


class Column(NamedTuple):
    """A heading, what kind of cells stand under it (the page shows each kind its own way), and how one is made."""

    title: str
    kind: str
    cell: Callable[[Group], Any]
    better: str | None = None  # for scores: whether high (`max`) or low (`min`)
    about: str | None = None


def make_columns(groups: Sequence[Group], origins: dict[str, dict[str, str]], monitor: str, mode: str) -> list[Column]:
    """Name, state, scores with the watched one in front, what differs, cost.

    `origins` tell experiments apart by where they come from: `{"code": {"one": "A", "two": "B"}}`.
    """
    entries = [entry for group in groups for entry in group.entries]
    columns = [Column("experiment", "name", lambda group: group.name), Column("state", "state", _states)]
    if len(groups) < len(entries):
        columns.append(Column("n", "count", lambda group: len(group.entries), about="experiments: seeds or folds"))
    watched, others = _score_columns(entries, monitor, mode)
    columns += [*watched[:1], *_verdict_columns(groups, monitor), *watched[1:]]
    columns += [*(_param_column(name) for name in varied_params(entries)), *others]
    columns += [_origin_column(kind, letters) for kind, letters in origins.items()]
    return columns + [
        _mean_column("best epoch", "count", "best_epoch", "epoch of the best val score"),
        _mean_column("epochs", "count", "epochs"),
        _mean_column("time", "seconds", "seconds", "of training and validation"),
        _mean_column("examples/s", "count", "examples_per_second"),
        _mean_column("weights", "count", "parameters", "how many numbers the network learns"),
    ]


def _states(group: Group) -> dict[str, int]:
    return dict(Counter(entry.state or NOT_BEGUN for entry in group.entries).most_common())


def _score_columns(entries: Sequence[Entry], monitor: str, mode: str) -> tuple[list[Column], list[Column]]:
    """The columns of the watched score, on val and on test, and those of all others."""
    watched, others = [], []
    for split in ("val", "test"):
        for name in dict.fromkeys(name for entry in entries for name in getattr(entry, split)):
            if name == monitor:
                watched.append(_score_column(split, name, mode))
            else:
                others.append(_score_column(split, name, direction(name, entries)))
    return watched, others


def _score_column(split: str, name: str, better: str | None) -> Column:
    def cell(group: Group) -> Values | None:
        return spread([getattr(entry, split).get(name) for entry in group.counted], of=len(group.entries))

    return Column(f"{split} {name}", "score", cell, better)


def _verdict_columns(groups: Sequence[Group], monitor: str) -> list[Column]:
    """Where runs are repeated, whether each row is worse than the best one by more than chance."""
    axes = repeated_axes(groups)
    metric = next((metric for metric in measure(groups, "val") if metric.name == monitor), None)
    if not axes or metric is None:
        return []
    found = verdicts(groups, metric, " or ".join(axes))
    texts = {_names(group): verdict.text for group, verdict in zip(groups, found, strict=True)}
    about = "t tests, paired where seeds are shared; p values are Holm's, over all rows"
    return [Column("vs best", "text", lambda group: texts.get(_names(group)), about=about)]


def _names(group: Group) -> tuple[str, ...]:
    return tuple(entry.name for entry in group.entries)


def _param_column(name: str) -> Column:
    """The value of a hyperparameter; for a group of seeds, all of its members' values where they differ."""

    def cell(group: Group) -> Any:
        values = dict.fromkeys(_shown(entry.params.get(name)) for entry in group.entries)
        return next(iter(values)) if len(values) == 1 else ", ".join(map(str, values))

    return Column(name, "param", cell)


def _shown(value: Any) -> Any:
    """A number or a text as it is; what else JSON knows, as JSON; nothing for what is not set."""
    if value is None or isinstance(value, str) or number(value) is not None:
        return value
    return json.dumps(value)


def _origin_column(kind: str, letters: dict[str, str]) -> Column:
    def cell(group: Group) -> str:
        return " ".join(sorted({letters[entry.name] for entry in group.entries if entry.name in letters}))

    return Column(kind, "text", cell, about=f"the same letter, the same {kind}; see the warning above")


def _mean_column(title: str, kind: str, name: str, about: str | None = None) -> Column:
    def cell(group: Group) -> float | None:
        known = [value for value in (number(getattr(entry, name)) for entry in group.counted) if value is not None]
        return fmean(known) if known else None

    return Column(title, kind, cell, about=about)


def spread(values: Sequence[Any], of: int) -> Values | None:
    """Mean, standard deviation and 95 % interval of those that are numbers, and of how many runs they might be."""
    known = [value for value in map(number, values) if value is not None]
    return {**asdict(summarize(known)), "of": of} if known else None


def make_rows(groups: Sequence[Group], columns: Sequence[Column]) -> list[Values]:
    """A row per group, its members as numbers in the order in which all experiments come."""
    rows, start = [], 0
    for group in groups:
        members = list(range(start, start + len(group.entries)))
        rows.append({"cells": [column.cell(group) for column in columns], "members": members})
        start += len(group.entries)
    return rows


def best_of(column: Column, cells: Sequence[Any]) -> float | None:
    """The best mean in a column of scores, if they differ and it is known which is better."""
    means = {cell["mean"] for cell in cells if cell is not None} if column.kind == "score" else set()
    if len(means) < 2 or column.better is None:
        return None
    return max(means) if column.better == "max" else min(means)
