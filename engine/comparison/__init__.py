"""Experiments side by side: folders become rows, rows that differ only in the seed a group, groups a table.

Only what lies in folders enters; nothing here imports torch, or changes a folder. Stands on `experiment`.
"""

from engine.comparison.difference import difference_between, find_group
from engine.comparison.groups import (
    Group,
    choose_entries,
    differing,
    direction,
    group_entries,
)
from engine.comparison.layout import csv_text, json_text, latex, markdown, terminal_text
from engine.comparison.ranking import measure, repeated_axes, verdicts
from engine.comparison.statistics import summarize
from engine.comparison.table import Table, make_table, plural

__all__ = [
    "Group",
    "Table",
    "choose_entries",
    "csv_text",
    "difference_between",
    "differing",
    "direction",
    "find_group",
    "group_entries",
    "json_text",
    "latex",
    "make_table",
    "markdown",
    "measure",
    "plural",
    "repeated_axes",
    "summarize",
    "terminal_text",
    "verdicts",
]
