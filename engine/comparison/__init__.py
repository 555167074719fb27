"""Experiments side by side: folders become rows, rows that differ only in the seed a group, groups a table.

Only what lies in folders enters; nothing here imports torch, or changes a folder. Stands on `experiment`.
"""

from engine.comparison.columns import Column, Frame, make_columns, state_counts
from engine.comparison.difference import difference_between, find_group
from engine.comparison.groups import (
    Group,
    choose_entries,
    differing,
    group_entries,
)
from engine.comparison.layout import csv_text, json_text, latex, markdown, terminal_text
from engine.comparison.names import short_names
from engine.comparison.ranking import Metric, decisive, measure
from engine.comparison.statistics import summarize
from engine.comparison.table import Table, make_table

__all__ = [
    "Column",
    "Frame",
    "Group",
    "Metric",
    "Table",
    "choose_entries",
    "csv_text",
    "decisive",
    "difference_between",
    "differing",
    "find_group",
    "group_entries",
    "json_text",
    "latex",
    "make_columns",
    "make_table",
    "markdown",
    "measure",
    "short_names",
    "state_counts",
    "summarize",
    "terminal_text",
]
