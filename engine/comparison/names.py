"""Names too long for their place: shortened to patterns that still tell them apart, and found again by these."""

import re
from collections.abc import Sequence

FILLER = "\0"  # after a letter that is two places wide, until all is laid out: then a text is as wide as it is long
LEFT_OUT = "*"  # what stands for any letters, as in the name of a group: `learning_rate=0.1,seed=*`


def short_names(names: Sequence[str], limit: int) -> list[str]:
    """Names of `limit` places at most, or of so many more as it takes to tell them apart.

    What all have in common goes first, then the middle of what is still too long.

    >>> short_names(["learning_rate=0.1,width=16,seed=*", "learning_rate=0.2,width=16,seed=*"], 12)
    ['*=0.1,*', '*=0.2,*']
    """
    if max(map(len, names), default=0) <= limit:
        return list(names)
    short = _without_shared(names)
    for most in range(limit, max(map(len, short))):
        cut = [_cut(name, most) for name in short]
        if len(set(cut)) == len(set(short)):
            return cut
    return short


def _without_shared(names: Sequence[str]) -> list[str]:
    """The names without the parts in which all are equal that are made of equally many."""
    parts = {name: re.split("([,/=])", name) for name in names}
    families: dict[int, list[list[str]]] = {}
    for one in parts.values():
        families.setdefault(len(one), []).append(one)
    shared = {length: _shared_parts(family) for length, family in families.items()}
    short = {name: _shortened(one, shared[len(one)]) for name, one in parts.items()}
    return [short[name] for name in names] if len(set(short.values())) == len(short) else list(names)


def _shared_parts(family: Sequence[Sequence[str]]) -> list[bool]:
    """For each part of some names whether all have the same."""
    return [len(family) > 1 and len(set(column)) == 1 for column in zip(*family, strict=True)]


def _shortened(parts: Sequence[str], shared: Sequence[bool]) -> str:
    """A name without the parts that it shares."""
    told = [LEFT_OUT if same and part not in ",/=" else part for part, same in zip(parts, shared, strict=True)]
    return re.sub(r"(\*[,/=])+\*", LEFT_OUT, "".join(told))


def _cut(name: str, limit: int) -> str:
    """Both ends of a name; a letter that would be cut in two goes."""
    if len(name) <= limit:
        return name
    tail = limit // 2
    start, end = name[: limit - tail - 1], name[len(name) - tail :]
    return f"{start[:-1] if name[len(start)] == FILLER else start}{LEFT_OUT}{end.lstrip(FILLER)}"


def fits(name: str, pattern: str) -> bool:
    """Whether a name is one that a pattern stands for."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split(LEFT_OUT))), name, re.DOTALL) is not None
