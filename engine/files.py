"""Files that are whole or not there, and JSON that is read strictly: each fault is one line with file and place."""

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from engine.errors import DiskError, UserError
from engine.system import sync_folder


@contextlib.contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its place when the block ends well, and vanishes when it fails.

    What is `durable` survives the power being cut: it is on the disk before it takes its place.

    >>> with replacing(folder / "status.json") as file:
    ...     file.write(b"{}")
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        cause = error if isinstance(error, OSError) else error.__context__  # torch.save raises an error of its own
        if isinstance(cause, OSError):
            raise DiskError(f"{path}: cannot be written ({cause.strerror}); what was there is as it was") from error
        raise


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, in one piece. What JSON cannot hold (NaN) is written as null.

    The bytes of a file name that are no text are escapes, by which JSON gives them back.
    """
    text = json.dumps(without_nan(content), indent=4, allow_nan=False, ensure_ascii=False)
    with replacing(path) as file:
        file.write(text.encode(errors="backslashreplace") + b"\n")


def without_nan(content: Any) -> Any:
    """The same content with null for each NaN and infinity, which strict readers of JSON refuse."""
    if isinstance(content, dict):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def is_text(name: str) -> bool:
    """Whether the name of a file is UTF-8: those out of old archives may be other bytes, that few programs show."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_json(path: Path | str) -> dict[str, Any]:
    """The JSON object in a file. Raises `UserError` with line and column for anything that is not exactly one."""
    try:
        content = parse_json(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: not valid JSON: {_fault(error)} at line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise UserError(f"{path}: nested too deeply to be hyperparameters") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold one JSON object {{...}}, not a {type(content).__name__}")
    return content


def _fault(error: json.JSONDecodeError) -> str:
    """What is wrong with a text: habits from other languages by their name, all else in the words of Python."""
    before, after = error.doc[: error.pos].rstrip(), error.doc[error.pos :]
    if after.startswith(("//", "/*", "#")):
        return 'a comment (JSON has none; a key that begins with "_" is one)'
    if before.endswith(",") and after.startswith(("}", "]")):
        return "a comma before the closing bracket"
    return error.msg


def parse_json(text: str) -> Any:
    """What a JSON text says. Raises `ValueError` for NaN, infinities, and keys that stand there twice."""
    return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_number, parse_float=_finite_number)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f'"{next(key for key in keys if keys.count(key) > 1)}" stands there twice')
    return content


def _refuse_number(text: str) -> float:
    raise ValueError(f"{text} is not a number that JSON knows")


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large a number")
    return number


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """What tells for each file of a folder whether it has been written since: its time and its place on the disk."""
    entries = ((entry.name, entry.stat()) for entry in os.scandir(folder) if entry.is_file())
    return {name: (stat.st_mtime_ns, stat.st_ino) for name, stat in entries}
