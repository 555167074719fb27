"""All that the report knows of the experiments below a folder, as plain JSON for its page."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from engine.comparison import Group, group_entries, plural, repeated_axes
from engine.experiment import Entry
from engine.hyperparameters import Values
from engine.report.facts import Facts, add_pictures, described, instant, looks, number, read_facts, sources
from engine.report.origins import letters_of, warnings_about
from engine.report.rows import NOT_BEGUN, Column, best_of, make_columns, make_rows, spread
from engine.report.search import NO_STUDIES, monitored, score, studies

MOST_PICTURE_BYTES = 12_000_000
PICKED_FIRST = 3
STATES = ["finished", "running", "interrupted", "pruned", "failed", "lost", NOT_BEGUN]


def make_content(parent: Path, entries: Sequence[Entry]) -> Values:
    """All that the page knows, as plain JSON."""
    groups = group_entries(entries)
    entries = [entry for group in groups for entry in group.entries]  # numbered from here on as the groups hold them
    facts = [read_facts(entry) for entry in entries]
    monitor, mode = monitored(entries)
    columns = make_columns(groups, letters_of(facts), monitor, mode)
    rows, alone = make_rows(groups, columns), make_rows([Group([entry]) for entry in entries], columns)
    best_first = _best_first(groups, monitor, mode)
    texts: dict[str, int] = {}
    return {
        "title": page_title(parent),
        "summary": _summary(groups, entries),
        "best": _best([groups[place] for place in best_first], monitor),
        "monitor": monitor,
        "states": STATES,
        "columns": _described(columns, rows, alone),
        "groups": rows,
        "sort_by": next((place for place, column in enumerate(columns) if column.title == f"val {monitor}"), 0),
        "picked_first": best_first[:PICKED_FIRST],
        "pictures_left_out": _take_pictures([facts[one] for place in best_first for one in rows[place]["members"]]),
        "entries": [_told(one, row["cells"], monitor, texts) for one, row in zip(facts, alone, strict=True)],
        "texts": list(texts),
        "warnings": warnings_about(facts),
        "studies": studies(entries),
        "no_studies": NO_STUDIES,
        **_looks(facts),
    }


def page_title(parent: Path) -> str:
    """What the page is called."""
    return f"Experiments in {parent.resolve().name}"


def _summary(groups: Sequence[Group], entries: Sequence[Entry]) -> str:
    counts = Counter(entry.state or NOT_BEGUN for entry in entries)
    states = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    together = f" in {len(groups)} rows" if len(groups) < len(entries) else ""
    number = f"{len(entries)} experiment{'s' if len(entries) != 1 else ''}"
    return f"{number}{together}{': ' if states else ''}{states}. Written {time.strftime('%Y-%m-%d %H:%M %z')}."


def _best_first(groups: Sequence[Group], monitor: str, mode: str) -> list[int]:
    """The places of the groups, the best mean of the watched score first, those without one last."""

    def rank(place: int) -> tuple[bool, float]:
        known = [value for value in (score(entry, monitor) for entry in groups[place].counted) if value is not None]
        mean = fmean(known) if known else 0.0
        return not known, -mean if mode == "max" else mean

    return sorted(range(len(groups)), key=rank)


def _best(best_first: Sequence[Group], monitor: str) -> str:
    """The best row in one sentence."""
    values = [score(entry, monitor) for entry in best_first[0].counted] if best_first else []
    cell = spread(values, of=len(values))
    if cell is None:
        return "No experiment has a score yet."
    runs = plural(repeated_axes(best_first) or ["seed"])
    several = (
        f" ± {cell['deviation']:.2g} over {cell['count']} {runs}" if cell["count"] > 1 else f", with one {runs[:-1]}"
    )
    return f"Best on val: {monitor} {cell['mean']:.4g}{several}, by {best_first[0].name}"


def _described(columns: Sequence[Column], rows: Sequence[Values], alone: Sequence[Values]) -> list[Values]:
    """The columns as the page wants them; what is best among the rows, and what among the experiments each alone."""
    return [
        {
            "title": column.title,
            "kind": column.kind,
            "better": column.better,
            "about": column.about,
            "best": best_of(column, [row["cells"][place] for row in rows]),
            "best_alone": best_of(column, [row["cells"][place] for row in alone]),
            "numeric": all(number(row["cells"][place]) is not None or row["cells"][place] is None for row in rows),
        }
        for place, column in enumerate(columns)
    ]


def _told(facts: Facts, cells: Sequence[Any], monitor: str, texts: dict[str, int]) -> Values:
    """One experiment as the page wants it; a patch that many share is kept once, among the `texts`."""
    return {
        "cells": cells,
        "reason": facts.entry.reason,
        "remark": "; ".join(facts.remarks),
        "seconds": number(facts.entry.seconds),
        "score": score(facts.entry, monitor),
        "history": facts.curves,
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
