"""All that the report knows of the experiments below a folder, as plain JSON for its page."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from engine.experiment import Entry
from engine.hyperparameters import Values
from engine.report.facts import Facts, add_pictures, described, instant, looks, number, read_facts, sources
from engine.report.origins import KINDS, letters_of, warnings_about
from engine.report.search import NO_STUDIES, studies

MOST_PICTURE_BYTES = 12_000_000
PICKED_FIRST = 3
LONGEST_NAME = 40  # letters in the table, where names are so long that they hide what tells them apart
STATES = ["finished", "running", "interrupted", "pruned", "failed", "lost", "not run"]


def make_content(parent: Path, entries: Sequence[Entry]) -> Values:
    """All that the page knows, as plain JSON. Its rows and columns are those of the table, the best first."""
    table = make_table(group_entries(entries))
    groups, frame = table.groups, table.frame
    entries = [entry for group in groups for entry in group.entries]  # numbered from here on as the groups hold them
    facts = [read_facts(entry) for entry in entries]
    by_name = sorted(facts, key=lambda one: one.entry.name)
    extra = {"note": {one.entry.name: one.note for one in facts if one.note}, **letters_of(by_name)}
    columns = [column for column in _columns(table.columns, frame, groups, extra) if any(column.texts) or not groups]
    single = [Group([entry]) for entry in entries]
    alone = {column.name: column for column in _columns(make_columns(single, frame), frame, single, extra)}
    rows = _rows(groups, columns)
    own = _rows(single, [alone.get(column.name) for column in columns])
    params, shared = _params(entries)
    left_out = _take_pictures([facts[one] for row in rows for one in row["members"]])
    texts: dict[str, int] = {}
    told = [_told(*one, frame.decisive, texts) for one in zip(facts, own, params, strict=True)]
    return {
        "title": page_title(parent),
        "summary": _summary(groups),
        "best": _best(table),
        "monitor": (frame.decisive or "val loss").removeprefix("val "),
        "states": STATES,
        "columns": [_described(column, table) for column in columns],
        "groups": rows,
        "sort_by": next((place for place, column in enumerate(columns) if column.name == frame.decisive), 0),
        "picked_first": list(range(len(groups)))[:PICKED_FIRST],
        "pictures_left_out": left_out,
        "entries": told,
        "shared_params": shared,
        "texts": list(texts),
        "warnings": warnings_about(by_name),
        "studies": studies(groups, facts),
        "no_studies": NO_STUDIES,
        **_looks(facts),
    }


def page_title(parent: Path) -> str:
    """What the page is called."""
    return f"Experiments in {parent.resolve().name}"


def _summary(groups: Sequence[Group]) -> str:
    counts = state_counts(groups)
    states = ", ".join(f"{count} {state or 'of the course'}" for state, count in counts.items())
    number = sum(counts.values())
    together = f" in {len(groups)} rows" if len(groups) < number else ""
    told = f"{number} experiment{'s' if number != 1 else ''}"
    return f"{told}{together}{': ' if states else ''}{states}. Written {time.strftime('%Y-%m-%d %H:%M %z')}."


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


# The table


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
        "kind": "score" if column.is_score else column.name if column.name in ("experiment", "state") else "",
        "better": column.mode,
        "about": origin if column.name in {kind.name for kind in KINDS} else " ".join(about) or None,
        "numeric": any(map(_is_number, column.values))
        and all(value is None or _is_number(value) for value in column.values),
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rows(groups: Sequence[Group], columns: Sequence[Column | None]) -> list[Values]:
    """A row per group: a short name, its cells, in which columns it is the best, and its members, by number."""
    rows, start = [], 0
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


def _params(entries: Sequence[Entry]) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The hyperparameters of each experiment in which not all are equal, and those that all share."""
    keys = set(differing([entry.params for entry in entries]))
    own = [{key: json.dumps(value) for key, value in entry.params.items() if key in keys} for entry in entries]
    first = entries[0].params if entries else {}
    return own, {key: json.dumps(value) for key, value in first.items() if key not in keys}


# Beyond the table


def _told(facts: Facts, row: Values, params: dict[str, str], decisive: str | None, texts: dict[str, int]) -> Values:
    """One experiment as the page wants it; a patch that many share is kept once, among the `texts`."""
    return {
        **row,
        "reason": facts.entry.reason,
        "remark": "; ".join(facts.remarks),
        "seconds": number(facts.entry.seconds),
        "score": number(facts.entry.val.get((decisive or "").removeprefix("val "))),
        "params": params,
        "history": facts.curves,
        "sampled": facts.sampled,
        "pictures": facts.pictures,
        "facts": described(facts),
        "sources": [(title, texts.setdefault(text, len(texts))) for title, text in sources(facts)],
    }


def _take_pictures(facts: Sequence[Facts]) -> str:
    """Take in the pictures of the best experiments first, as many as there is room for, and say what is left out."""
    room, left_out = MOST_PICTURE_BYTES, 0
    for one in facts:
        room, more = add_pictures(one, room)
        left_out += more
    if not left_out:
        return ""
    return f"Not here but in their folders, so that this page can still be sent: {left_out} of the pictures."


def _looks(facts: Sequence[Facts]) -> Values:
    """Every look at a split that is not for choosing, the first one first."""
    found = sorted((look for one in facts for look in looks(one)), key=lambda look: instant(look[0]))
    if not found:
        return {"looks": [], "looks_summary": "Nobody has looked at it yet: no evaluation is on record."}
    names = len({name for _, name, *_ in found})
    summary = f"{len(found)} on record, in {names} of {len(facts)} experiments. Who chooses by them has no test left."
    return {"looks": found, "looks_summary": summary}
