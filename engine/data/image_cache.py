"""Images decoded once, on all cores, into one array on disk that is memory-mapped ever after.

It may exceed memory, several processes share it, and it is made anew when a file, the size or the format changes.
"""

import contextlib
import hashlib
import logging
import math
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import BinaryIO, NoReturn

import numpy as np

from engine.data.image_file import Content, headers, masks, pixels
from engine.data.image_folder import ImageFolder, Split
from engine.data.image_readers import read_all, read_files
from engine.errors import UserError
from engine.files import replacing
from engine.hosting import bar_kind
from engine.system import user_cache_folder

VERSION = 2  # of what is made of a file; a new number makes every cache anew
DAMAGED = "damaged.txt"
SMALL = 8  # side to which images are decoded only to see whether they can be
MOST_TOLD = 10  # damaged files on the screen; all of them are in the list


def read_images(folder: ImageFolder, size: int, channels: int, fit: str = "crop") -> dict[str, np.ndarray]:
    """The pixels of the splits, each a memory-mapped uint8 array (N, channels, size, size) of the `files` of a split.

    Splits that are drawn out of one source share one array. `fit` is how an image becomes square: crop, pad, squeeze.
    """
    arrays: dict[str, np.ndarray] = {}
    for split in folder.splits.values():
        if split.source not in arrays:
            kind = f"{split.source}-{channels}x{size}x{size}" + (f"-{fit}" if fit != "crop" else "")
            arrays[split.source] = _cached(folder, split, kind, pixels(size, channels, fit))
    return {name: arrays[split.source] for name, split in folder.splits.items()}


def read_image(path: str | Path, size: int, channels: int, fit: str = "crop") -> np.ndarray:
    """The pixels of one image file that is not cached, uint8 (channels, size, size). Raises `UserError` if damaged."""
    read = read_files([os.fspath(path)], pixels(size, channels, fit))
    if read.reasons:
        raise UserError(f"not a readable image ({read.reasons[0]})")
    return read.values[0]


def read_masks(folder: ImageFolder, size: int) -> dict[str, np.ndarray]:
    """The masks of the splits, as `read_images` has images: uint8 (N, size, size), the numbers in the files."""
    return {
        name: _cached(folder, split, f"{split.source}-{size}x{size}", masks(size))
        for name, split in folder.splits.items()
    }


def read_headers(folder: ImageFolder, split: str) -> np.ndarray:
    """Shorter side, longer side and channels (1 grey, 3 colour) of the images of a split, as an int32 array (N, 3)."""
    found = folder.splits[split]
    return _cached(folder, found, f"{found.source}-headers", headers())[found.rows]


def _cached(folder: ImageFolder, split: Split, kind: str, content: Content) -> np.ndarray:
    """The content of all files of a split, from the cache if it is there and the files are as they were."""
    name = f"{kind}-{_fingerprint(folder, split.files, content)}.npy"
    places = _cache_folders(folder.data_dir)
    for place in places:
        if (array := _open(place / name)) is not None:
            return array
    return _make(_cache_folder(folder) / name, folder, split, kind, content)


def _fingerprint(folder: ImageFolder, files: Sequence[str], content: Content) -> str:
    """A hash that changes with any file's name, size or time, and with what is made of them."""
    listing, gone = [], {}
    for file in files:
        try:
            stat = os.stat(os.path.join(folder.data_dir, file))
            listing.append((file, stat.st_size, stat.st_mtime_ns))
        except OSError as error:  # a link that leads nowhere
            gone[os.path.join(folder.data_dir, file)] = str(error.strerror)
    if gone:
        _refuse(folder, gone)
    text = repr((VERSION, tuple(content), listing))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _cache_folders(data_dir: Path) -> tuple[Path, Path]:
    """Where the cache may lie: beside the data, or with the user where nothing may be written there."""
    path = str(data_dir.resolve())
    own = hashlib.sha256(path.encode(errors="surrogatepass")).hexdigest()[:16]
    return data_dir / ".cache", user_cache_folder() / own


def _cache_folder(folder: ImageFolder) -> Path:
    """Where a new cache goes."""
    places = _cache_folders(folder.data_dir)
    return next(filter(_is_writable, places), places[-1])


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _open(path: Path) -> np.ndarray | None:
    """The array in a file, mapped copy-on-write: PyTorch wants memory that could be written to; the file stays."""
    try:
        return np.load(path, mmap_mode="c")
    except (OSError, ValueError, EOFError):  # not there, or cut short by a crash of the machine
        return None


def _make(path: Path, folder: ImageFolder, split: Split, kind: str, content: Content) -> np.ndarray:
    """Build the cache file, or wait for the process that is building it."""
    from filelock import FileLock

    try:
        with FileLock(path.with_name(f".{kind}.lock")):
            if _open(path) is None:
                _remove_stale(path.parent, kind)
                _check_space(path.parent, len(split.files), content)
                _write(path, folder, split, content)
    except OSError as error:
        reason = error.strerror or error  # such as: No space left on device
        raise UserError(f"{path.parent}: the image cache cannot be written ({reason})") from None
    array = _open(path)
    assert array is not None
    return array


def _remove_stale(place: Path, kind: str) -> None:
    """Delete what an earlier state of the files left, or a process that was killed."""
    for pattern in (f"{kind}-{'[0-9a-f]' * 16}.npy", f".{kind}-*.tmp", DAMAGED):
        for stale in place.glob(pattern):
            try:
                stale.unlink()
            except OSError:  # Windows keeps a file that another process has mapped
                logging.debug("%s: could not be deleted", stale)


def _check_space(place: Path, number_of_files: int, content: Content) -> None:
    needed = number_of_files * math.prod(content.shape) * np.dtype(content.dtype).itemsize
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UserError(
            f"{place}: the image cache needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
            'free some space, or set a smaller "image_size"'
        )


def _write(path: Path, folder: ImageFolder, split: Split, content: Content) -> None:
    """Read all files of a split and write what they hold, in order; if one is damaged, tell of all that are.

    Plain writes rather than a memory map: where the disk runs full, these raise an error and a map kills the process.
    """
    start, shape = time.perf_counter(), (len(split.files), *content.shape)
    paths = [os.path.join(folder.data_dir, file) for file in split.files]
    with replacing(path) as out:
        header = {"descr": np.dtype(content.dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        damaged = _read_into(out, paths, content)
        if damaged:
            _refuse(folder, damaged)
        out.flush()
        os.fsync(out.fileno())
    if content != headers():
        where = folder.data_dir if split.source == "all" else f"{folder.data_dir}, {split.source}"
        logging.info("Read %d images of %s, in %.1f s", len(paths), where, time.perf_counter() - start)


def _read_into(out: BinaryIO | None, paths: Sequence[str], content: Content) -> dict[str, str]:
    """Write what the files hold to `out`, up to the first that is damaged; without `out`, look at them all.

    Returns the damaged ones, each with the reason.
    """
    damaged: dict[str, str] = {}
    progress = bar_kind()(total=len(paths), desc="images", unit="", delay=0.5)
    with progress, contextlib.closing(read_all(paths, content)) as readings:
        for read in readings:
            progress.update(len(read.paths))
            damaged |= {read.paths[place]: reason for place, reason in read.reasons.items()}
            if out is not None:
                if damaged:
                    break
                out.write(read.values.data)
    return damaged


def _refuse(folder: ImageFolder, damaged: dict[str, str]) -> NoReturn:
    """Look at the whole of every image of all splits, and raise `UserError` that tells of all that are damaged."""
    files = dict.fromkeys(file for split in folder.splits.values() for file in split.files)
    paths = [os.path.join(folder.data_dir, file) for file in files]
    damaged = damaged | _read_into(None, paths, pixels(SMALL, 3, "crop"))
    told = [f"{path}: not a readable image ({reason})" for path, reason in sorted(damaged.items())]
    if len(told) == 1:
        raise UserError(f"{told[0]}; replace or delete it")
    place = _cache_folder(folder) / DAMAGED
    with replacing(place) as file:
        file.writelines(os.fsencode(os.path.abspath(path)) + b"\n" for path in sorted(damaged))
    for line in [*told[:MOST_TOLD], *(["..."] if len(told) > MOST_TOLD else [])]:
        logging.error(line)
    raise UserError(
        f"{folder.data_dir}: {len(told)} of {len(paths)} images cannot be read, listed in {place}; replace them, or "
        f"delete them: tr '\\n' '\\0' < {quote(str(place))} | xargs -0 rm"
    )
