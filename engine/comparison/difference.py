"""What two experiments differ in: hyperparameters, scores, data, versions, code."""

import os
from collections.abc import Sequence
from pathlib import Path

from engine.comparison.groups import Group, differing, find_row
from engine.comparison.ranking import measure
from engine.comparison.wording import Numbers, param_text, plain
from engine.experiment import RUN, code_difference, latest_record, read_entry, read_object
from engine.hyperparameters import Values


def find_group(parent: Path, name: str) -> Group:
    """The experiment at the path `name`, or the experiment or row of the table that is called so below `parent`."""
    for folder in (Path(name), parent / name):
        entry = read_entry(folder)
        if entry is not None:
            return Group([entry])
    is_path = os.path.isdir(Path(name).parent) and Path(name).parent != Path()
    return Group(find_row(Path(name) if is_path else parent / name))


def difference_between(one: Group, other: Group) -> str:
    """All that two experiments, or rows of several seeds, differ in, in sections; where nothing does, it says so."""
    groups = {"A": one, "B": other}
    records = [_record(group) for group in groups.values()]
    unrecorded = [name for name, record in zip(groups, records, strict=True) if not record]
    sections = {"Hyperparameters": _values_table(one.params, other.params), "Scores": _score_table(one, other)}
    if unrecorded:
        sections["Data, versions and code"] = f"not recorded of {' and '.join(unrecorded)}"
    else:
        sections["Data"] = _values_table(*(record.get("data") or {} for record in records))
        sections["Versions and machine"] = _values_table(*(_surroundings(record) for record in records))
        sections["Code"] = code_difference(*records)
    lines = [f"{name}  {plain(_title(group))}" for name, group in groups.items()]
    remarks = {name: [entry.remark for entry in group.entries if entry.remark] for name, group in groups.items()}
    lines += [f"Caution: {name}: {remark}" for name in groups for remark in remarks[name]]
    for title, text in sections.items():
        lines += ["", f"{title}: the same" if not text else f"{title}:\n{text}"]
    return "\n".join(lines)


def _title(group: Group) -> str:
    """The folder of an experiment; the name of a row and of how many runs its scores are the mean."""
    if len(group.entries) == 1:
        return str(group.entries[0].folder)
    return f"{group.name}, mean of {len(group.counted)} runs"


def _record(group: Group) -> Values:
    """What is recorded of the first that has a record; code and data are the same in all of a row."""
    records = (latest_record(read_object(entry.folder / RUN, [])) for entry in group.entries)
    return next(filter(None, records), {})


def _values_table(one: Values, other: Values) -> str:
    keys = differing([one, other])
    return _grid([[key, param_text(one.get(key)), param_text(other.get(key))] for key in keys], ["", "A", "B"])


def _score_table(one: Group, other: Group) -> str:
    """Each score of both, those that are equal too, as soon as one is not."""
    rows, is_different = [], False
    for split in ("val", "test"):
        for metric in measure([one, other], split):
            before, after = metric.summaries
            numbers = Numbers.like(metric.means)
            change = f"{after.mean - before.mean:+.{numbers.decimals}f}" if before and after else ""
            texts = [numbers.spread(summary.mean, summary.deviation) if summary else "" for summary in (before, after)]
            rows.append([metric.title, *texts, change])
            is_different |= repr(before) != repr(after)  # NaN equals itself here
    return _grid(rows, ["", "A", "B", "B - A"]) if is_different else ""


def _grid(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    from tabulate import tabulate

    cells = [[plain(text) for text in row] for row in rows]
    return tabulate(cells, headers, disable_numparse=True) if rows else ""


def _surroundings(record: Values) -> Values:
    """What the code ran on and with."""
    return {**(record.get("versions") or {}), "device": record.get("device"), "system": record.get("system")}
