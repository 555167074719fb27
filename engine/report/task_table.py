"""The experiments of one task: their table, what has to be known to compare them, and what their searches found."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine.comparison import (
    Column,
    Frame,
    Group,
    Table,
    differing,
    group_entries,
    make_columns,
    make_table,
    short_names,
    state_counts,
)
from engine.experiment import PARAMS, Entry, read_object
from engine.hyperparameters import DEFAULTS, Values
from engine.report.curves import number
from engine.report.facts import Facts, read_facts
from engine.report.origins import KINDS, all_variants, differences_in_code, letters_of, warnings_about
from engine.report.search import NO_STUDIES, studies

PICKED_FIRST = 3
LONGEST_NAME = 40  # letters in the table, where names are so long that they hide what tells them apart


class TaskTable(NamedTuple):
    """The experiments of one task, in the order of the rows of their table."""

    task: str
    table: Table
    facts: list[Facts]


def read_task_table(task: str, entries: Sequence[Entry]) -> TaskTable:
    """The table of one task, the best row first, and what else the folders of its experiments hold."""
    table = make_table(group_entries(entries))
    return TaskTable(task, table, [read_facts(entry) for group in table.groups for entry in group.entries])


def described_table(one: TaskTable, start: int = 0) -> tuple[Values, list[Values]]:
    """The table as the page wants it, and each experiment alone; these are numbered from `start` on."""
    table, facts = one.table, one.facts
    groups, frame = table.groups, table.frame
    by_name = sorted(facts, key=lambda fact: fact.entry.name)
    variants = all_variants(by_name)
    extra = {"note": {fact.entry.name: fact.note for fact in facts if fact.note}, **letters_of(variants)}
    columns = [column for column in _columns(table.columns, frame, groups, extra) if any(column.texts) or not groups]
    single = [Group([fact.entry]) for fact in facts]
    alone = {column.name: column for column in _columns(make_columns(single, frame), frame, single, extra)}
    own = _rows(single, [alone.get(column.name) for column in columns], start)
    params, shared = _params([group.entries[0] for group in single])
    bases, base_of = _bases(facts)
    revisions, differences = differences_in_code(facts)
    content = {
        "task": one.task,
        "best": _best(table),
        "monitor": (frame.decisive or "val loss").removeprefix("val "),
        "columns": [_described(column, table) for column in columns],
        "groups": _rows(groups, columns, start),
        "sort_by": next((place for place, column in enumerate(columns) if column.name == frame.decisive), 0),
        "picked_first": list(range(len(groups)))[:PICKED_FIRST],
        "shared_params": shared,
        "bases": bases,
        "differences": differences,
        "warnings": warnings_about(by_name, variants),
        "studies": studies(groups, facts),
        "no_studies": NO_STUDIES,
    }
    told = zip(facts, own, params, base_of, revisions, strict=True)
    return content, [_entry(*parts, frame.decisive) for parts in told]


def _best(table: Table) -> str:
    """The best row in one sentence."""
    column = next((column for column in table.columns if column.name == table.frame.decisive), None)
    if column is None or not column.texts[0]:
        return "No experiment has a score yet."
    best = table.groups[0]
    if not best.is_settled:
        return "No experiment is finished yet: none is the best."
    count = len(best.counted)
    runs = f" over {count} {table.frame.kind}" if count > 1 else f", with one {table.frame.kind[:-1]}"
    return f"Best: {column.name} {column.texts[0]}{runs}, by {best.name}"


# Columns


def _columns(
    columns: Sequence[Column], frame: Frame, groups: Sequence[Group], extra: Mapping[str, Mapping[str, str]]
) -> list[Column]:
    """Those of the table that are to be read, what decides in front; at the end what else is told, by experiment."""
    told = [column for column in columns if (column.texts or not groups) and column.name != "remark"]
    first = ["experiment", "state", frame.kind, frame.decisive]
    told.sort(key=lambda column: [*first, column.name].index(column.name))
    for name, texts in extra.items():
        found = [{texts[entry.name] for entry in group.entries if entry.name in texts} for group in groups]
        cells = [" ".join(sorted(one)) for one in found]
        told.append(Column(name, cells, cells))
    return told


def _described(column: Column, table: Table) -> Values:
    """A column as the page wants it."""
    origin = f"the same letter, the same {column.name}; see the warning above"
    about = [text for name, text in table.notes if name == column.name]
    return {
        "title": column.name,
        "kind": _kind(column, table.frame),
        "better": column.mode,
        "about": origin if column.name in {kind.name for kind in KINDS} else " ".join(about) or None,
        "numeric": any(map(_is_number, column.values))
        and all(value is None or _is_number(value) for value in column.values),
    }


def _kind(column: Column, frame: Frame) -> str:
    """What the page does otherwise with this column than with others."""
    if column.is_score:
        return "score"
    if column.name == frame.kind:
        return "runs"
    if column.name.removeprefix("params ") in frame.params:
        return "param"
    return column.name if column.name in ("experiment", "state") else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# Rows


def _rows(groups: Sequence[Group], columns: Sequence[Column | None], start: int) -> list[Values]:
    """A row per group: a short name, its cells, in which columns it is the best, and its members, by number."""
    rows = []
    short = short_names([group.name for group in groups], LONGEST_NAME)
    for place, group in enumerate(groups):
        rows.append(
            {
                "name": short[place],
                "cells": [_cell(column, place) for column in columns],
                "best": [number for number, column in enumerate(columns) if column and place in column.best],
                "members": list(range(start, start + len(group.entries))),
                "states": state_counts([group]),
                "settled": group.is_settled,
            }
        )
        start += len(group.entries)
    return rows


def _cell(column: Column | None, row: int) -> Any:
    """What is read; a number to sort by as well, where it is another than what is read."""
    if column is None:
        return ""
    value, text = number(column.values[row]), column.texts[row]
    return text if value is None else [value, text]


def _entry(facts: Facts, row: Values, params: Values, base: int | None, revision: int | None, decisive: Any) -> Values:
    """One experiment alone."""
    return {
        **row,
        "reason": facts.entry.reason,
        "remark": "; ".join(facts.remarks),
        "seconds": number(facts.entry.seconds),
        "score": number(facts.entry.val.get((decisive or "").removeprefix("val "))),
        "params": params,
        "base": base,
        "revision": revision,
    }


# Hyperparameters


def _params(entries: Sequence[Entry]) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The hyperparameters of each experiment in which not all are equal, and those that all share."""
    keys = set(differing([entry.params for entry in entries]))
    own = [_as_texts({key: value for key, value in entry.params.items() if key in keys}) for entry in entries]
    first = entries[0].params if entries else {}
    return own, _as_texts({key: value for key, value in first.items() if key not in keys})


def _bases(facts: Sequence[Facts]) -> tuple[list[Values], list[int | None]]:
    """What the experiments of a folder have been made from, the `params.json` in it; and which base is whose."""
    folders = dict.fromkeys(one.entry.folder.parent for one in facts)
    typed = {folder: params for folder in folders if (params := _typed(folder))}
    bases = [{"name": f"{folder.resolve().name}/{PARAMS}", "params": _as_texts(typed[folder])} for folder in typed]
    places = {folder: place for place, folder in enumerate(typed)}
    return bases, [places.get(one.entry.folder.parent) for one in facts]


def _typed(folder: Path) -> Values:
    """The hyperparameters in a folder's `params.json`, defaults included; none where there is no such file."""
    given = read_object(folder / PARAMS, []) if (folder / PARAMS).is_file() else {}
    return {**DEFAULTS, **{key: value for key, value in given.items() if not key.startswith("_")}} if given else {}


def _as_texts(params: Values) -> dict[str, str]:
    return {key: json.dumps(value, ensure_ascii=False) for key, value in params.items()}
