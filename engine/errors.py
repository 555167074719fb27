"""Errors that are the user's to mend, and how every script ends: one line and status 2, never a traceback for them."""

import difflib
import errno
import io
import os
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

Result = TypeVar("Result")


DISK_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


class UserError(Exception):
    """Bad input, in one line that says what, where and what to do. Our own faults are never this."""

    status = 2


class DiskError(UserError):
    """A file that cannot be written, most often because the disk is full."""

    status = 1


class Lost(UserError):
    """The end of another process of the same run."""

    status = 1


class ToldElsewhere(Lost):
    """The same, where the other process says itself why."""


def run(main: Callable[[], Result]) -> Result:
    """Call `main` as a script: a `UserError` becomes its one line on stderr and its exit status."""
    sys.excepthook = _quiet_interruption
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack letters
    try:
        result = main()
        sys.stdout.flush()
        return result
    except UserError as error:
        if not isinstance(error, ToldElsewhere):
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(error.status)
    except BrokenPipeError:  # `... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in DISK_FULL | DENIED:
            raise
        denied = "is not ours to read or write" if error.errno in DENIED else "cannot be written"
        print(f"error: {error.filename or 'a file'}: {denied} ({error.strerror})", file=sys.stderr)
        sys.exit(DiskError.status)


def _quiet_interruption(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Python ends by the signal itself after Ctrl-C; where it was just then is nobody's concern."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)


def command(script: str, *words: object) -> str:
    """What one would type to run a script, called as the running one was: from where it lies, a copy by its own name.

    >>> command("train", "--model_dir", "experiments/my run")
    "python train.py --model_dir 'experiments/my run'"
    """
    running = Path(sys.argv[0])
    is_copy = running.suffix == ".py" and running.name.startswith(script)
    beside = running.parent / (running.name if is_copy else f"{script}.py")
    return shlex.join(["python", str(beside if beside.is_file() else beside.name), *map(str, words)])


def slip(name: str, known: Iterable[str]) -> str | None:
    """The known name of which `name` is a slip of the keys: a letter more, less or another, two in turn, a case, a `_`.

    >>> slip("imagesize", ["image_size"]), slip("weight_decya", ["weight_decay"]), slip("depth", ["width"])
    ('image_size', 'weight_decay', None)
    """
    return next((one for one in sorted(known) if one != name and _is_slip(_letters(name), _letters(one))), None)


def _letters(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _is_slip(one: str, other: str) -> bool:
    """Whether two words differ in at most one letter, or in the order of two neighbours."""
    start = next((i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    start = min(len(one), len(other)) if start is None else start
    a, b = one[start:], other[start:]
    return a[1:] == b[1:] or a == b[1:] or a[1:] == b or (a[:2] == b[1::-1] and a[2:] == b[2:])


def nearest(name: str, candidates: Iterable[str], likeness: float = 0.7) -> str | None:
    """The candidate that `name` most likely meant, or None: a slip of the keys, or initials such as `lr`.

    >>> nearest("learning_rat", ["learning_rate", "batch_size"])
    'learning_rate'
    """
    names = sorted(candidates)
    by_letters = {candidate.lower().replace("_", ""): candidate for candidate in names}
    letters = name.lower().replace("_", "").replace("-", "")
    close = difflib.get_close_matches(letters, by_letters, n=1, cutoff=likeness)
    if close:
        return by_letters[close[0]]
    by_initials = {"".join(word[:1] for word in candidate.split("_")): candidate for candidate in names}
    return by_initials.get(letters) if len(letters) > 1 else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """The end of an error message: `; did you mean "learning_rate"?`, or nothing where no name is near."""
    guess = nearest(name, candidates)
    return f'; did you mean "{guess}"?' if guess else ""


def form_of(value: Any) -> str:
    """What a value is, for an error message: `None`, `a list`, `a tuple of 3`, `a Tensor of shape (32,)`."""
    if value is None:
        return "None"
    if hasattr(value, "shape"):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, tuple | list | dict) else "")
