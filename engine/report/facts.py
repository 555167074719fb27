"""What the report tells of one experiment beyond its row: curves, pictures, and where the result comes from."""

import base64
import hashlib
import json
import math
import os
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from engine.experiment import HISTORY, PARAMS, RUN, STATUS, Entry, read_object, read_rows
from engine.hyperparameters import Values
from engine.report.curves import Curves, curves_of, number, sampled_in

Content = TypeVar("Content")
LONGEST_TEXT = 200_000  # characters of one patch or file
PICTURES = ("confusion", "mistakes")
TOLD = ("command", "started", "device", "system")
SIZES = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("bytes", 1))
ENDED = ("finished", "pruned", "failed")


@dataclass(slots=True)
class Facts:
    """One experiment: its entry in the table, and what else its folder holds."""

    entry: Entry
    run: Values = field(default_factory=dict)
    curves: Curves = field(default_factory=dict)
    sampled: list[str] = field(default_factory=list)  # of the curves those that are of some batches only
    pictures: list[Values] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    note: str = ""  # what somebody wrote into its `params.json` as "_note"
    ended: float | None = None  # seconds since 1970; None where it has not, or nobody knows
    files: list[tuple[str, int]] = field(default_factory=list)  # names and bytes of what lies in the folder

    def part(self, name: str, kind: type[Content]) -> Content:
        """A part of `run.json`; an empty one where it is missing, or of another kind than it should be."""
        value = self.run.get(name)
        return value if isinstance(value, kind) else kind()

    @property
    def records(self) -> list[Values]:
        """What was recorded at the first start and at each continuation."""
        return [self.run, *(record for record in self.part("continued", list) if isinstance(record, dict))]


def read_facts(entry: Entry) -> Facts:
    """Read a folder; what is damaged is a remark."""
    facts, damaged = Facts(entry, files=_files(entry.folder)), list[str]()
    if (entry.folder / RUN).is_file():
        facts.run = read_object(entry.folder / RUN, damaged)
    if (entry.folder / HISTORY).is_file():
        rows = read_rows(entry.folder / HISTORY, damaged)
        facts.curves, facts.sampled = curves_of(rows), sampled_in(rows)
    if (entry.folder / PARAMS).is_file():
        note = read_object(entry.folder / PARAMS, []).get("_note")
        facts.note = note if isinstance(note, str) else ""
    if entry.state in ENDED:
        facts.ended = number(read_object(entry.folder / STATUS, []).get("updated"))
    facts.remarks = [entry.remark] if entry.remark else []
    facts.remarks += [remark for remark in damaged if remark not in entry.remark]
    return facts


# Where the result comes from


def described(facts: Facts) -> dict[str, str]:
    """What `run.json` says of the origin of a result, in words, by title."""
    if not facts.run:
        return {}
    told = {name: str(facts.run[name]) for name in TOLD if facts.run.get(name) is not None}
    told["commit"] = str(facts.part("git", dict).get("commit") or "none: not in a git repository")
    versions, code, data = (facts.part(name, dict) for name in ("versions", "code", "data"))
    if versions:
        told["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    if code:
        told["task code"] = f"{', '.join(map(str, code))}; fingerprint {fingerprint(code)}"
    if data:
        told["data"] = f"{data.get('files')} files, {data.get('bytes')} bytes; sha256 {data.get('sha256')}"
    for place, record in enumerate(facts.records[1:], start=1):
        told[f"continued {place}"] = f"{record.get('started')}: {record.get('command')}"
    told["files"] = ", ".join(f"{name} ({_size(size)})" for name, size in facts.files)
    return told


def _files(folder: Path) -> list[tuple[str, int]]:
    """What lies in a folder itself, and how many bytes each file has; a folder in place of a picture is told later."""
    try:
        with os.scandir(folder) as listing:
            files = [file for file in listing if file.name[0] != "." and (file.is_file() or file.name.endswith(".png"))]
            return sorted((file.name, file.stat().st_size) for file in files)
    except OSError:
        return []


def _size(count: float) -> str:
    """Bytes, as people tell them: `1.5 MB`."""
    return next(f"{count / size:.3g} {unit}" for unit, size in SIZES if count >= size or size == 1)


def sources(facts: Facts) -> list[tuple[str, str]]:
    """The code that was in no commit when the run began or went on: title and text."""
    texts = []
    for place, record in enumerate(facts.records):
        git = record.get("git")
        when = f", continued {place}" if place else ""
        if isinstance(git, dict) and git.get("patch"):
            texts.append((f"Patch{when}: what differed from the commit", shortened(git["patch"])))
        if isinstance(git, dict) and isinstance(git.get("untracked"), dict):
            texts += [(f"{name}{when}: not in git", shortened(text)) for name, text in git["untracked"].items()]
    return texts


def shortened(text: Any) -> str:
    """The beginning of a text that may be too long for a page."""
    text = str(text)
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]}\n… {len(text) - LONGEST_TEXT} more characters stand in run.json"


def fingerprint(content: Any) -> str:
    """Twelve letters that stand for a content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def origin(facts: Facts, kind: str) -> str | None:
    """A fingerprint of what must be equal for results to be comparable: their `code`, `data`, `versions` or `git`.

    A run that went on with other code than it began with equals only those that did the same.
    """
    if not any(record.get(kind) for record in facts.records):
        return None
    return " ".join(dict.fromkeys(fingerprint(record.get(kind)) for record in facts.records))


def looks(facts: Facts) -> list[list[str]]:
    """Each evaluation on a split that no run sees by itself: when, experiment, split, checkpoint, scores."""
    found = []
    for look in facts.part("evaluations", list):
        if isinstance(look, dict) and look.get("split") not in ("train", "val"):
            when, split, checkpoint = (str(look.get(name, "")) for name in ("at", "split", "checkpoint"))
            found.append([when.replace("T", " "), facts.entry.name, split, checkpoint, _in_words(look.get("scores"))])
    return found


def instant(text: str) -> float:
    """When that was, wherever the clock stood; what is no time comes last."""
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S%z").timestamp()
    except ValueError:
        return math.inf


def _in_words(scores: Any) -> str:
    items = scores.items() if isinstance(scores, dict) else ()
    return ", ".join(f"{name} {value:.4g}" if number(value) is not None else f"{name} {value}" for name, value in items)


# Pictures


def add_pictures(facts: Facts, room: int) -> tuple[int, int]:
    """Take in the pictures that fit into so many bytes; returns the bytes left, and how many did not fit."""
    left_out = 0
    for name, size in ((name, size) for kind in PICTURES for name, size in facts.files if _is_picture(name, kind)):
        if size > room:
            left_out += 1
            continue
        try:
            data = base64.b64encode((facts.entry.folder / name).read_bytes()).decode()
        except OSError as error:
            facts.remarks.append(f"{name} cannot be read ({error.strerror})")
            continue
        room -= size
        facts.pictures.append({"name": Path(name).stem.replace("_", " on ", 1), "data": data})
    return room, left_out


def _is_picture(name: str, kind: str) -> bool:
    return name.startswith(f"{kind}_") and name.endswith(".png")
