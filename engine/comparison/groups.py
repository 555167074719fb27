"""What is compared: those experiments that repeat one another, under another seed or fold, as a group."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from engine.comparison.names import LEFT_OUT, fits
from engine.errors import UserError, did_you_mean
from engine.experiment import AXES, Entry, read_entries, usual_mode
from engine.hyperparameters import HOW_IT_RUNS, Values

NOT_SHARED = HOW_IT_RUNS.union(AXES)
MOST_ABOVE = 5  # levels at which to look for `a/b/seed=* and 1 more`, whose experiments lie in several folders


@dataclass(slots=True)
class Group:
    """Experiments that differ only in seed or fold; often it is one alone."""

    entries: list[Entry]

    @property
    def name(self) -> str:
        """What the names of its experiments have in common, as a pattern: `learning_rate=0.1,seed=*`."""
        siblings: dict[str, list[str]] = {}
        for entry in self.entries:
            siblings.setdefault(entry.name.rpartition("/")[0], []).append(entry.name)
        most = max(siblings.values(), key=len)
        others = len(self.entries) - len(most)
        return f"{_pattern(most)} and {others} more" if others else _pattern(most)

    @property
    def params(self) -> Values:
        """The hyperparameters that they share."""
        params = self.entries[0].params
        return params if len(self.entries) == 1 else {key: params[key] for key in params if key not in AXES}

    @property
    def data(self) -> str:
        """The fingerprint of the data that those that ran were trained on."""
        return next((entry.data for entry in self.entries if entry.data), "")

    @property
    def counted(self) -> list[Entry]:
        """Those whose scores are averaged: the finished ones, or all where none is."""
        return [entry for entry in self.entries if entry.is_finished] or self.entries

    @property
    def is_settled(self) -> bool:
        """Whether any of them is finished: else its scores are those of runs on their way, or given up."""
        return any(entry.is_finished for entry in self.entries)


def _pattern(names: Sequence[str]) -> str:
    """One name, or what several begin and end with; numbers are not cut in two."""
    if len(names) == 1:
        return names[0]
    start = _common_start(names)
    if any(name[len(start) :][:1].isdigit() for name in names):
        start = start.rstrip("0123456789")
    end = _common_start([name[len(start) :][::-1] for name in names])[::-1].lstrip("0123456789")
    return f"{start}*{end}"


def _common_start(texts: Sequence[str]) -> str:
    first, last = min(texts), max(texts)  # all others lie between them
    end = next((end for end, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    return first[:end]


def group_entries(entries: Iterable[Entry]) -> list[Group]:
    """Experiments that differ only in seed or fold, each in one group; those of other code or data never are.

    The same seed twice is no repetition: each stays in a group of its own. One that waits for its run joins those that
    have the same hyperparameters.
    """
    groups: dict[Any, list[Entry]] = {}
    origins: dict[Any, tuple[str, str]] = {}
    turns: Counter[Any] = Counter()
    for entry in sorted(entries, key=lambda entry: not entry.code):
        shared = _shared(entry.params)
        origin = (entry.code, entry.data) if entry.has_run else origins.get(shared, ("", ""))
        origins.setdefault(shared, origin)
        key = (shared, origin, entry.repetition)
        turn = turns[key]
        turns[key] += 1
        groups.setdefault((shared, origin, turn), []).append(entry)
    members = (sorted(group, key=attrgetter("name")) for group in groups.values())
    return sorted((Group(group) for group in members), key=lambda group: group.entries[0].name)


def _shared(params: Values) -> frozenset[Any]:
    """What repetitions have in common, to be looked up by; a key that is absent is as good as None."""
    values = {key: value for key, value in params.items() if key not in NOT_SHARED and value is not None}
    try:
        return frozenset(values.items())
    except TypeError:  # of a list
        return frozenset((key, repr(value)) for key, value in values.items())


def differing(params_list: Sequence[Values]) -> list[str]:
    """The keys in which hyperparameters differ; one that is absent is as good as None."""
    keys = dict.fromkeys(key for params in params_list for key in params)
    return [key for key in keys if any(params.get(key) != params_list[0].get(key) for params in params_list)]


def direction(metric: str, entries: Iterable[Entry]) -> str | None:
    """Whether a metric is better high or low: what runs that watch it say, else its name; None if nobody knows."""
    modes = {entry.mode for entry in entries if entry.monitor == metric and entry.mode}
    return modes.pop() if len(modes) == 1 else usual_mode(metric)


def choose_entries(path: Path) -> list[Entry]:
    """The experiments at or below a folder, or in the row that has this name in the table of a folder above."""
    return read_entries(path) if os.path.isdir(path) else find_row(path)


def find_row(path: Path) -> list[Entry]:
    """The experiments in the row that is called so in the table of a folder above, or the one that is.

    A `*` stands for any letters. Rows may share a name; a pattern that fits several names is an error.
    """
    names: set[str] = set()
    above = [folder for folder in path.parents if os.path.isdir(folder)]
    for folder in above[: MOST_ABOVE if path.name.endswith(" more") else 1]:
        wanted, entries = path.relative_to(folder).as_posix(), read_entries(folder)
        for groups in (group_entries(entries), [Group([entry]) for entry in entries]):
            found = _rows_called(wanted, groups)
            if len(found) > 1:
                raise UserError(f"{path}: stands for {len(found)} rows: {', '.join(list(found)[:3])}, ...")
            if found:
                return next(iter(found.values()))
            names.update((folder / group.name).as_posix() for group in groups)
    raise UserError(
        f"{path}: no such folder, nor a row of that name in the table{did_you_mean(path.as_posix(), names)}"
    )


def _rows_called(wanted: str, groups: Sequence[Group]) -> dict[str, list[Entry]]:
    """The experiments of the rows of this name; where there is none, those of the rows whose names fit it, by name."""
    rows: dict[str, list[Entry]] = {}
    for group in groups:
        rows.setdefault(group.name, []).extend(group.entries)
    if wanted in rows:
        return {wanted: rows[wanted]}
    return {name: entries for name, entries in rows.items() if LEFT_OUT in wanted and fits(name, wanted)}
