"""All that the report knows of the experiments below a folder, as plain JSON for its page."""

import time
from collections.abc import Sequence
from pathlib import Path

from engine.comparison import state_counts
from engine.experiment import Entry
from engine.hyperparameters import Values
from engine.report.curves import epochs_kept, shown
from engine.report.facts import Facts, add_pictures, described, instant, looks, sources
from engine.report.task_table import TaskTable, described_table, read_task_table
from engine.wording import counted

MOST_PICTURE_BYTES = 12_000_000
STATES = ["finished", "running", "interrupted", "pruned", "failed", "lost", "not run"]


def make_content(parent: Path, entries: Sequence[Entry]) -> tuple[Values, Values]:
    """What the page shows at once, a table per task, and what it unpacks once that is there: curves, pictures, code."""
    tables = _tables(entries)
    facts = [one for table in tables for one in table.facts]
    details = _details(facts)  # first, as a picture that cannot be read is a remark on its experiment
    described, told = list[Values](), list[Values]()
    for place, table in enumerate(tables):
        content, members = described_table(table, start=len(told))
        described.append(content)
        told += [{**member, "table": place} for member in members]
    content = {
        "title": page_title(parent),
        "summary": _summary(tables),
        "states": STATES,
        "tables": described,
        "entries": told,
        **_looks(facts),
    }
    return content, details


def _tables(entries: Sequence[Entry]) -> list[TaskTable]:
    """A table for each task, that of the most experiments first: scores of different tasks do not compare."""
    by_task: dict[str, list[Entry]] = {}
    for entry in entries:
        by_task.setdefault(str(entry.params.get("task")), []).append(entry)
    ordered = sorted(by_task.items(), key=lambda pair: -len(pair[1])) or [("", [])]
    return [read_task_table(task, members) for task, members in ordered]


def page_title(parent: Path) -> str:
    """What the page is called."""
    return f"Experiments in {parent.resolve().name}"


def _summary(tables: Sequence[TaskTable]) -> str:
    groups = [group for table in tables for group in table.table.groups]
    counts = state_counts(groups)
    states = ", ".join(f"{count} {state or 'of the course'}" for state, count in counts.items())
    number = sum(counts.values())
    together = f" in {len(groups)} rows" if len(groups) < number else ""
    tasks = f", of {len(tables)} tasks" if len(tables) > 1 else ""
    told = f"{counted(number, 'experiment')}{together}{tasks}"
    return f"{told}{': ' if states else ''}{states}. Written {time.strftime('%Y-%m-%d %H:%M %z')}."


# Beyond the tables


def _details(facts: Sequence[Facts]) -> Values:
    """What else is told of each experiment; a patch that many share is kept once, among the `texts`."""
    most, longest = epochs_kept([one.curves for one in facts]), max(map(_epochs, facts), default=0)
    left_out = _take_pictures(facts)
    texts: dict[str, int] = {}
    told = [
        {
            "history": shown(one.curves, most),
            "sampled": one.sampled,
            "pictures": one.pictures,
            "facts": described(one),
            "sources": [(title, texts.setdefault(text, len(texts))) for title, text in sources(one)],
        }
        for one in facts
    ]
    return {
        "entries": told,
        "texts": list(texts),
        "thinned": f"Curves are drawn through some {most} of up to {longest} epochs; their ends, best and worst stay."
        if longest > most
        else "",
        "pictures_left_out": left_out,
    }


def _epochs(facts: Facts) -> int:
    return max(map(len, facts.curves.values()), default=0)


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
