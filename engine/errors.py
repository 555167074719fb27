"""Errors that are the user's to mend, and how every script ends: one line and status 2, never a traceback for them."""

import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, TypeVar

Result = TypeVar("Result")


DISK_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


class UserError(Exception):
    """Bad input, in one line that says what, where and what to do. Our own faults are never this."""

    status = 2


class DiskError(UserError):
    """A file that cannot be written, most often because the disk is full."""

    status = 1


def run(main: Callable[[], Result]) -> Result:
    """Call `main` as a script: a `UserError` becomes its one line on stderr and its exit status."""
    sys.excepthook = _quiet_interruption
    try:
        result = main()
        sys.stdout.flush()
        return result
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(error.status)
    except BrokenPipeError:  # `... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        print(f"error: {error.filename or 'a file'}: cannot be written ({error.strerror})", file=sys.stderr)
        sys.exit(DiskError.status)


def _quiet_interruption(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Python ends by the signal itself after Ctrl-C; where it was just then is nobody's concern."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)


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
