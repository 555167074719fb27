"""What runs have left in their folders, read fast and with patience: what is damaged is a remark, never an error.

`engine.files` reads strictly what a run depends on. This is for looking at ten thousand folders in a second or two.
"""

import json
import os
import re
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

from engine.experiment.monitor import merit
from engine.experiment.names import BEST_SCORES, BOARD, HISTORY, PARAMS, RUN, SEARCH, STATUS, TRACKED
from engine.hyperparameters import Values

TRACES = {RUN, STATUS, HISTORY, BEST_SCORES}  # of something that ran
DECODER = json.JSONDecoder(parse_constant=lambda _: None)  # NaN, which is no JSON, as null
OBJECTS = {"params", "git", "versions", "code", "data", "tracker"}  # what is an object in run.json
LARGEST_FILE = 2**26  # bytes; what is larger was written by no run


def experiment_folders(parent: Path) -> dict[str, set[str]]:
    """The names in each folder at or below `parent` that is an experiment, by its relative path, sorted.

    A folder with no more than a `params.json` waits for its run, unless it is the base of what lies below it.
    """
    found = {folder: names for folder, names in _walk(parent) if is_experiment(names)}
    folders = sorted(found)
    return {
        folder: found[folder]
        for folder in folders
        if found[folder] & TRACES or not (SEARCH in found[folder] or _any_below(folder, folders))
    }


def is_experiment(names: Set[str]) -> bool:
    """Whether a folder with files of these names is an experiment, be it one that waits for its run."""
    return PARAMS in names or bool(names & TRACES)


def _walk(parent: Path) -> Iterator[tuple[str, set[str]]]:
    """Each folder at or below `parent`, as a relative path, with the names in it; hidden ones are left out.

    A link is followed once, and only where it leads to what is not found anyway, be it outside of `parent` or hidden.
    """
    places = [os.path.realpath(parent)]
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(os.path.join(parent, folder)) as listing:
                entries = list(listing)
        except FileNotFoundError:  # it has just been moved away
            continue
        except OSError:
            yield folder, {RUN}  # as in `names_in`
            continue
        for entry in entries:
            if not _is_hidden(entry.name) and (
                _leads_elsewhere(entry.path, places) if entry.is_symlink() else entry.is_dir()
            ):
                waiting.append(f"{folder}/{entry.name}" if folder else entry.name)
        yield folder, {entry.name for entry in entries}


def _leads_elsewhere(link: str, places: list[str]) -> bool:
    """Whether a link is to a folder that no walk of `places` comes to, nor above the first; it is one from now on."""
    if not os.path.isdir(link):
        return False
    target = os.path.realpath(link)
    if any(_is_come_to(target, place) for place in places) or Path(places[0]).is_relative_to(target):
        return False
    places.append(target)
    return True


def _is_come_to(target: str, place: str) -> bool:
    """Whether a folder lies in `place`, and in nothing there that is hidden."""
    path = Path(target)
    return path.is_relative_to(place) and not any(map(_is_hidden, path.relative_to(place).parts))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in (BOARD, TRACKED)


def names_in(folder: Path) -> set[str]:
    """The names in a folder; none if there is no such folder."""
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError:
        return {RUN}  # for all one knows; reading it will say why it cannot be read


def _any_below(folder: str, folders: Sequence[str]) -> bool:
    """Whether one of the sorted `folders` lies below `folder`."""
    start = f"{folder}/" if folder else ""
    position = bisect(folders, start)
    return position < len(folders) and folders[position].startswith(start)


def read_object(path: str | Path, remarks: list[str]) -> Values:
    """The JSON object in a file; nothing, and a remark, if there is none."""
    content = _read(path, _decoded, remarks)
    if content is None or isinstance(content, dict):
        return content or {}
    remarks.append(f"{os.path.basename(path)} holds no JSON object")
    return {}


def latest_record(run: Values) -> Values:
    """What `run.json` says of the last time that the run began or went on; objects in it that are none are left out."""
    continued = run.get("continued")
    last = continued[-1] if isinstance(continued, list) and continued and isinstance(continued[-1], dict) else {}
    record = {**run, **last}
    return {key: value for key, value in record.items() if key not in OBJECTS or isinstance(value, dict)}


def read_rows(path: str | Path, remarks: list[str]) -> list[Values]:
    """The JSON objects in a file, one per line; a remark on each damaged line, but for a last one in the making."""
    data = _read(path, bytes.strip, remarks) or b""
    return _sound_rows(data.split(b"\n"), os.path.basename(path), remarks)


def read_history(path: str | Path, score: str, mode: str | None, remarks: list[str]) -> tuple[Values, Values]:
    """The lines of the best and of the last epoch in a file of one JSON object per line; empty where there are none.

    The best is the one with the highest `score` (`val_accuracy`), or the lowest if the mode is `min`; without a mode
    there is no best. Among equals it is as `merit` says.
    """
    data = _read(path, bytes.strip, remarks) or b""
    lines = data.split(b"\n")
    scores = re.findall(rb'"%s": (-?[0-9][0-9.e+-]*)' % re.escape(score.encode()), data)
    try:
        if mode is None or len(scores) != len(lines):
            raise ValueError("not the lines that a run writes when all goes well, so that each has to be looked at")
        numbers = [float(number) for number in scores]
        best = (min if mode == "min" else max)(numbers)
        equals = [_decoded(line) for line, number in zip(lines, numbers, strict=True) if number == best]
        return _best(equals, score, mode), _decoded(lines[-1])  # a few instead of all: this is half of the time
    except (ValueError, RecursionError):
        rows = _sound_rows(lines, os.path.basename(path), remarks)
        scored = [row for row in rows if mode and isinstance(row.get(score), int | float)]
        return _best(scored, score, mode) if scored else {}, rows[-1] if rows else {}


def _best(rows: list[Values], score: str, mode: str | None) -> Values:
    """The best of the lines of some epochs, the last one of equals."""
    return max(reversed(rows), key=lambda row: merit(row[score], _number(row.get("val_loss")), mode))


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) else None


def _read(path: str | Path, decode: Callable[[bytes], Any], remarks: list[str]) -> Any:
    try:
        with open(path, "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > LARGEST_FILE:
                remarks.append(f"{os.path.basename(path)} is too large to be read")
                return None
            return decode(file.readall())
    except OSError as error:
        remarks.append(f"{os.path.basename(path)} cannot be read ({error.strerror})")
    except (ValueError, RecursionError):  # of JSON or of UTF-8
        remarks.append(f"{os.path.basename(path)} is damaged")
    return None


def _decoded(data: bytes) -> Any:
    return DECODER.decode(data.decode().removeprefix("\ufeff"))  # the mark that some editors begin a file with


def _sound_rows(lines: list[bytes], name: str, remarks: list[str]) -> list[Values]:
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(_decoded(line) if line.strip() else None)
        except (ValueError, RecursionError):
            if number < len(lines):
                remarks.append(f"{name}: line {number} is damaged")
    return [row for row in rows if isinstance(row, dict)]
