"""What a check has to say: passed, warned, failed or not judged; what was seen, and what to do."""

from typing import NamedTuple


class Finding(NamedTuple):
    """The answer of one check."""

    verdict: str
    seen: str
    advice: str = ""


class CannotJudge(Exception):
    """Why a check has nothing to say of this project."""


def passed(seen: str) -> Finding:
    """Nothing is wrong here."""
    return Finding("passed", seen)


def warned(seen: str, advice: str) -> Finding:
    """It may be meant so; most often it is not."""
    return Finding("warned", seen, advice)


def failed(seen: str, advice: str) -> Finding:
    """A fault: what is trained like this is not what was meant."""
    return Finding("failed", seen, advice)


def named(name: str) -> str:
    """`kind: ` in front of what is said of one of several heads."""
    return f"{name}: " if name else ""
