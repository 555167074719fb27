"""What two experiments differ in: hyperparameters, scores, data, versions, code."""

from collections.abc import Sequence
from pathlib import Path

from engine.comparison.groups import differing
from engine.comparison.wording import number_format, param_text, plain
from engine.errors import UserError, did_you_mean
from engine.experiment import Entry, code_difference, latest_record, read_entries, read_entry, read_object
from engine.hyperparameters import Values


def find_entry(parent: Path, name: str) -> Entry:
    """The experiment at the path `name`, or called so below `parent`."""
    for folder in (Path(name), parent / name):
        entry = read_entry(folder)
        if entry is not None:
            return entry
    names = [entry.name for entry in read_entries(parent)]
    raise UserError(f"{name}: no experiment is there, nor below {parent}{did_you_mean(name, names)}")


def difference_between(one: Entry, other: Entry) -> str:
    """All that two experiments differ in, in sections; where nothing differs, it says so."""
    entries = {"A": one, "B": other}
    records = [latest_record(read_object(entry.folder / "run.json", [])) for entry in entries.values()]
    unrecorded = [name for name, record in zip(entries, records, strict=True) if not record]
    sections = {"Hyperparameters": _values_table(one.params, other.params), "Scores": _score_table(one, other)}
    if unrecorded:
        sections["Data, versions and code"] = f"not recorded of {' and '.join(unrecorded)}"
    else:
        sections["Data"] = _values_table(*(record.get("data") or {} for record in records))
        sections["Versions and machine"] = _values_table(*(_surroundings(record) for record in records))
        sections["Code"] = code_difference(*records)
    lines = [f"{name}  {plain(str(entry.folder))}" for name, entry in entries.items()]
    lines += [f"Caution: {name}: {entry.remark}" for name, entry in entries.items() if entry.remark]
    for title, text in sections.items():
        lines += ["", f"{title}: the same" if not text else f"{title}:\n{text}"]
    return "\n".join(lines)


def _values_table(one: Values, other: Values) -> str:
    keys = differing([one, other])
    return _grid([[key, param_text(one.get(key)), param_text(other.get(key))] for key in keys], ["", "A", "B"])


def _score_table(one: Entry, other: Entry) -> str:
    """Each score of both, those that are equal too, as soon as one is not."""
    rows = []
    for split, a, b in (("val", one.val, other.val), ("test", one.test, other.test)):
        for name in dict.fromkeys([*a, *b]):
            before, after = a.get(name), b.get(name)
            style = number_format([before, after])
            change = f"{after - before:+{style}}" if before is not None and after is not None else ""
            texts = ["" if score is None else f"{score:{style}}" for score in (before, after)]
            rows.append([f"{split} {name}", *texts, change])
    return _grid(rows, ["", "A", "B", "B - A"]) if (one.val, one.test) != (other.val, other.test) else ""


def _grid(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    from tabulate import tabulate

    cells = [[plain(text) for text in row] for row in rows]
    return tabulate(cells, headers, disable_numparse=True) if rows else ""


def _surroundings(record: Values) -> Values:
    """What the code ran on and with."""
    return {**(record.get("versions") or {}), "device": record.get("device"), "system": record.get("system")}
