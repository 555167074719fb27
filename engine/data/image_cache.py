"""Images decoded once, in parallel, into one array on disk that is memory-mapped ever after.

It may exceed memory, several processes share it, and it is made anew when a file, the size or the format changes.
"""

import contextlib
import hashlib
import logging
import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from engine.data.image_folder import and_others
from engine.errors import UserError
from engine.files import replacing
from engine.system import user_cache_folder

VERSION = 1  # of what this module makes of a file; a new number makes every cache anew
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")  # whatever a file calls itself; no plugin that starts a program
LONGEST_SIDE = 65_500
FILES_AT_ONCE = 1024


class Content(NamedTuple):
    """What is made of each file: an array of `shape`, by `read`. `kind` names it among the caches of a data folder."""

    kind: str
    shape: tuple[int, ...]
    dtype: type[np.generic]
    read: Callable[[Path], np.ndarray]


def read_images(data_dir: Path, files: Sequence[str], source: str, size: int, channels: int) -> np.ndarray:
    """The pixels of `files` as a memory-mapped uint8 array (N, channels, size, size)."""
    kind = f"{source}-{channels}x{size}x{size}"
    content = Content(kind, (channels, size, size), np.uint8, lambda path: decode(path, size, channels))
    return _cached(data_dir, files, content)


def read_headers(data_dir: Path, files: Sequence[str], source: str) -> np.ndarray:
    """The shorter side and the channels (1 grey, 3 colour) of `files`, as an int32 array (N, 2)."""
    return _cached(data_dir, files, Content(f"{source}-headers", (2,), np.int32, read_header))


def read_header(path: Path) -> np.ndarray:
    """Shorter side and channels of one image, without decoding it."""
    with _opened(path) as image:
        grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I")
        return np.array([min(image.size), 1 if grey else 3], dtype=np.int32)


def decode(path: Path, size: int, channels: int) -> np.ndarray:
    """One image file -> uint8 (channels, size, size): upright, over white, scaled to fit and cropped at its centre."""
    mode = "L" if channels == 1 else "RGB"
    with _opened(path) as image:
        image.draft(mode, (2 * size, 2 * size))  # big photographs are decoded at a half, a quarter or an eighth
        ImageOps.exif_transpose(image, in_place=True)
        fitted = ImageOps.fit(_opaque(image).convert(mode), (size, size))
    return np.asarray(fitted).reshape(size, size, channels).transpose(2, 0, 1)


def _opened(path: Path) -> Image.Image:
    image = Image.open(path, formats=FORMATS)
    if max(image.size) > LONGEST_SIDE:
        raise ValueError(f"{image.size[0]} x {image.size[1]} pixels, a side may have {LONGEST_SIDE}")
    return image


def _opaque(image: Image.Image) -> Image.Image:
    """The same image in 8 bits, what is transparent in it white."""
    if image.mode.startswith("I"):  # 16 bits, which Pillow's own conversion would clip at 255
        return Image.fromarray((np.asarray(image).astype(np.float32) / 257 + 0.5).clip(0, 255).astype(np.uint8))
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _cached(data_dir: Path, files: Sequence[str], content: Content) -> np.ndarray:
    """The content of all files (N, *shape), from the cache if it is there and the files are as they were."""
    name = f"{content.kind}-{_fingerprint(data_dir, files, content)}.npy"
    folders = _cache_folders(data_dir)
    for folder in folders:
        if (array := _open(folder / name)) is not None:
            return array
    return _make(next(filter(_is_writable, folders), folders[-1]) / name, data_dir, files, content)


def _fingerprint(data_dir: Path, files: Sequence[str], content: Content) -> str:
    """A hash that changes with any file's name, size or time, and with what is made of them."""
    try:
        stats = [os.stat(os.path.join(data_dir, file)) for file in files]
    except OSError as error:  # a link that leads nowhere
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None
    listing = [(file, stat.st_size, stat.st_mtime_ns) for file, stat in zip(files, stats, strict=True)]
    text = repr((VERSION, content.kind, content.shape, listing))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _cache_folders(data_dir: Path) -> tuple[Path, Path]:
    """Where the cache may lie: beside the data, or with the user where nothing may be written there."""
    path = str(data_dir.resolve())
    own = hashlib.sha256(path.encode(errors="surrogatepass")).hexdigest()[:16]
    return data_dir / ".cache", user_cache_folder() / own


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


def _make(path: Path, data_dir: Path, files: Sequence[str], content: Content) -> np.ndarray:
    """Build the cache file, or wait for the process that is building it."""
    from filelock import FileLock

    try:
        with FileLock(path.with_name(f".{content.kind}.lock")):
            if _open(path) is None:
                _remove_stale(path.parent, content.kind)
                _check_space(path.parent, len(files), content)
                _write(path, data_dir, files, content)
    except OSError as error:
        reason = error.strerror or error  # such as: No space left on device
        raise UserError(f"{path.parent}: the image cache cannot be written ({reason})") from None
    array = _open(path)
    assert array is not None
    return array


def _remove_stale(folder: Path, kind: str) -> None:
    """Delete what an earlier state of the files left, or a process that was killed."""
    for pattern in (f"{kind}-{'[0-9a-f]' * 16}.npy", f".{kind}-*.tmp"):
        for stale in folder.glob(pattern):
            try:
                stale.unlink()
            except OSError:  # Windows keeps a file that another process has mapped
                logging.debug("%s: could not be deleted", stale)


def _check_space(folder: Path, number_of_files: int, content: Content) -> None:
    needed = number_of_files * math.prod(content.shape) * np.dtype(content.dtype).itemsize
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: the image cache needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
            'free some space, or set a smaller "image_size"'
        )


def _write(path: Path, data_dir: Path, files: Sequence[str], content: Content) -> None:
    """Read all files and write what they hold, in order.

    Plain writes rather than a memory map: where the disk runs full, these raise an error and a map kills the process.
    """
    start = time.perf_counter()
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(content.dtype)),
        "fortran_order": False,
        "shape": (len(files), *content.shape),
    }
    bad: list[str] = []
    with replacing(path) as out, _pillow_warnings():
        np.lib.format.write_array_header_1_0(out, header)
        for file, result in _read_all(data_dir, files, content.read):
            if isinstance(result, Exception):
                bad.append(f"{data_dir / file}: not a readable image ({result or type(result).__name__})")
            elif not bad:
                out.write(np.ascontiguousarray(result, dtype=content.dtype).data)
        if bad:
            raise UserError(f"{bad[0]}; replace or delete it{and_others(bad)}")
        out.flush()
        os.fsync(out.fileno())
    logging.info("Read %d images of %s in %.1f s", len(files), data_dir, time.perf_counter() - start)


def _read_all(
    data_dir: Path, files: Sequence[str], read: Callable[[Path], np.ndarray]
) -> Iterator[tuple[str, np.ndarray | Exception]]:
    """What `read` makes of each file, in order, by several threads: Pillow decodes without holding Python's lock."""
    from tqdm import tqdm

    def attempt(file: str) -> np.ndarray | Exception:
        try:
            return read(data_dir / file)
        except Exception as error:  # damaged bytes raise almost anything in Pillow's plugins
            return error

    with (
        ThreadPoolExecutor() as pool,
        tqdm(total=len(files), desc="images", unit="", disable=None, leave=False, delay=0.5) as progress,
    ):
        for start in range(0, len(files), FILES_AT_ONCE):
            some = files[start : start + FILES_AT_ONCE]
            for file, result in zip(some, pool.map(attempt, some), strict=True):
                progress.update()
                yield file, result


@contextlib.contextmanager
def _pillow_warnings() -> Iterator[None]:
    """Pillow's warning of an image of suspicious size as an error; its other warnings are no help here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
