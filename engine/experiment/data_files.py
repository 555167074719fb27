"""Which files the data are, so that a run that goes on is not given others in silence. Never imports torch."""

import hashlib
import math
import os
import stat
from pathlib import Path
from typing import NamedTuple

from engine.experiment.records import is_experiment, read_object
from engine.hyperparameters import Values
from engine.wording import counted, some

SMALL_FILE = 2**20  # bytes; what is small is known by its content, what is larger by that of its pieces
PIECE, PIECES = 2**16, 16  # bytes, and how many of them, spread over a large file
MOST_READ = 2**26  # bytes, in all, of small files and of the pieces of large ones: each where its kind stays below it
MOST_OPENED = 20_000  # small files: to open one takes as long as to read all of it
MOST_LISTED = 20_000  # files; of more, as many are listed, from all over the data


class DataFile(NamedTuple):
    """A file of the data; its content as a hash, of pieces where it is large; None where it was not read."""

    size: int
    changed: float
    content: str | None


class Differences(NamedTuple):
    """What differs between the data of a run and those that are there now: in words, empty where nothing does."""

    refused: list[str]
    told: list[str]


def list_files(data_dir: Path) -> dict[str, DataFile] | None:
    """Each file of the data by its relative name; None where there are none. A data folder may be a single file.

    Hidden files do not count, nor do experiments that are kept below the data: we write there ourselves.
    """
    if data_dir.is_file():
        paths = {data_dir.name: str(data_dir)}
    elif data_dir.is_dir():
        paths = _walk(str(data_dir), "")
    else:
        return None
    told = {name: _size_and_time(path) for name, path in sorted(paths.items())}
    small = {name: size for name, (size, _) in told.items() if 0 <= size <= SMALL_FILE}
    large = [name for name, (size, _) in told.items() if size > SMALL_FILE]
    read = {*small} if len(small) <= MOST_OPENED and sum(small.values()) <= MOST_READ else set()
    read.update(large if len(large) * PIECES * PIECE <= MOST_READ else ())
    return {
        name: DataFile(*told[name], _content(paths[name], told[name][0]) if name in read else None) for name in told
    }


def fingerprint_of(files: dict[str, DataFile] | None) -> Values | None:
    """How many files the data has, of how many bytes, and a hash of their names, sizes and what was read of them."""
    if files is None:
        return None
    told = [(name, file.size, file.content) for name, file in files.items()]
    digest = hashlib.sha256(repr(told).encode()).hexdigest()
    return {"files": len(files), "bytes": sum(file.size for file in files.values()), "sha256": digest}


def describe(fingerprint: Values | None) -> str:
    """A fingerprint in words."""
    return f"{fingerprint.get('files')} files, {fingerprint.get('bytes')} bytes" if fingerprint else "none"


def as_listed(files: dict[str, DataFile] | None) -> Values:
    """What is kept beside a run's fingerprint, so that it can be told later what has changed."""
    files = files or {}
    return dict(list(files.items())[:: math.ceil(len(files) / MOST_LISTED) or 1])


def read_listed(path: Path) -> dict[str, DataFile]:
    """What was kept, or nothing."""
    listed = read_object(path, []) if path.is_file() else {}
    return {name: DataFile(*told) for name, told in listed.items() if isinstance(told, list) and len(told) == 3}


def differences(
    before: Values | None, listed: dict[str, DataFile], now: dict[str, DataFile] | None, data_dir: str
) -> Differences:
    """How the data that are there now differ from those of a run: `before` is its fingerprint, `listed` its files.

    Files that were added are told, others refused. To copy data changes times, so that another time alone is no
    difference: what was read of the contents is. Where none was, or pieces of a large file, another time is told.
    """
    if before is None or now is None or not listed:
        same = before == fingerprint_of(now)
        return Differences(
            [] if same else [f"data in {data_dir}: {describe(before)} -> {describe(fingerprint_of(now))}"], []
        )
    all_are_listed = len(listed) == before.get("files")
    gone = [name for name in listed if name not in now]
    added = [name for name in now if name not in listed] if all_are_listed else []
    pairs = {name: (file, now[name]) for name, file in listed.items() if name in now}
    changed = [name for name, (old, new) in pairs.items() if _is_other(old, new)]
    retimed = [name for name, (old, new) in pairs.items() if old.changed != new.changed and not _is_known(old, new)]
    if not (all_are_listed or gone or changed):
        return _differences_in_all(before, fingerprint_of(now), data_dir)
    refused = [("gone", gone), ("changed", changed)]
    told = [
        ("added since this run began", added),
        ("with another time, compared in part or not at all", [name for name in retimed if name not in changed]),
    ]
    return Differences(
        [f"data in {data_dir}: {what} {some(names)}" for what, names in refused if names],
        [f"{data_dir}: {counted(len(names), 'file')} {what}: {some(names)}" for what, names in told if names],
    )


def _differences_in_all(before: Values, now: Values | None, data_dir: str) -> Differences:
    """The same where only some of the files are known, which are there as they were: of the others, their number."""
    if now is None or before == now:
        return Differences([], [])
    line = f"data in {data_dir}: {describe(before)} -> {describe(now)}"
    has_grown = now["files"] > before.get("files", 0)
    return Differences([], [f"{line}; too many to be compared one by one"]) if has_grown else Differences([line], [])


def _is_other(old: DataFile, new: DataFile) -> bool:
    contents = old.content, new.content
    return old.size != new.size or (None not in contents and contents[0] != contents[1])


def _is_known(old: DataFile, new: DataFile) -> bool:
    """Whether the whole of both contents was compared."""
    return new.size <= SMALL_FILE and None not in (old.content, new.content)


def _size_and_time(path: str) -> tuple[int, float]:
    try:
        told = os.stat(path)
    except OSError:  # a link to nothing
        return -1, 0.0
    return (told.st_size, round(told.st_mtime, 3)) if stat.S_ISREG(told.st_mode) else (-1, 0.0)


def _content(path: str, size: int) -> str | None:
    """A hash of a file, or of pieces that are spread evenly over a large one, its first and last bytes among them."""
    digest = hashlib.blake2b(digest_size=8)
    step = (size - PIECE) / (PIECES - 1)
    try:
        with open(path, "rb") as file:
            for place in [0] if size <= SMALL_FILE else (round(index * step) for index in range(PIECES)):
                file.seek(place)
                digest.update(file.read(SMALL_FILE if size <= SMALL_FILE else PIECE))
    except OSError:
        return None
    return digest.hexdigest()


def _walk(folder: str, prefix: str) -> dict[str, str]:
    """The path of each file below a folder, by its relative name."""
    files: dict[str, str] = {}
    with os.scandir(folder) as listing:
        entries = [entry for entry in listing if not entry.name.startswith(".")]
    if prefix and is_experiment({entry.name for entry in entries}):
        return {}
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            files.update({} if entry.name == "__pycache__" else _walk(entry.path, f"{prefix}{entry.name}/"))
        else:
            files[prefix + entry.name] = entry.path
    return files
