"""How scores, counts, durations and lists are told in one line, wherever that is. Never imports torch."""

from collections.abc import Mapping, Sequence


def counted(number: float, noun: str) -> str:
    """So many of something.

    >>> counted(1, "epoch"), counted(2, "epoch"), counted(2, "batch")
    ('1 epoch', '2 epochs', '2 batches')
    """
    plural = f"{noun}es" if noun.endswith(("tch", "sh", "s", "x")) else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def some(names: Sequence[str], most: int = 3) -> str:
    """The first of some names, and how many more there are.

    >>> some(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def score_line(scores: Mapping[str, float | None]) -> str:
    """Scores that are numbers, by name: `accuracy 0.983, loss 0.0541`."""
    return ", ".join(f"{name} {value:.4g}" for name, value in scores.items() if value is not None)


def duration(seconds: float) -> str:
    """A time span, two or three digits of it.

    >>> duration(0.042), duration(35), duration(200), duration(5000), duration(400000)
    ('0.04 s', '35 s', '3.3 min', '1.4 h', '4.6 d')
    """
    if seconds < 99.5:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    for unit, length, limit in (("min", 60, 100), ("h", 3600, 72)):
        if seconds < limit * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds / 86400:.1f} d"
