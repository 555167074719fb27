"""The space of a search: what each hyperparameter may be, as `search.json` says. Never imports torch."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import UserError, nearest
from engine.experiment import Declarations
from engine.hyperparameters import KEYS, Key, Values, checked

DIGITS = 4  # significant ones of a number that is drawn, so that a folder's name tells the value
STEP_DIGITS = 12  # of one on a step: 0.3, and not 0.30000000000000004
SLACK = 1e-9  # of a step
EXACT = 2**53  # below it, a float that is whole is that number
ONE_FOR_ALL = {  # what configurations cannot be ranked by, if it varies
    "seed": 'the seeds to take the mean over go into "seeds"',
    "monitor": "one score ranks all trials, so it belongs into params.json",
    "mode": "one score ranks all trials, so it belongs into params.json",
    "task": "scores of two tasks do not compare; search in a folder for each",
}


@dataclass(frozen=True)
class Choice:
    """One of a list of values, of whatever kind."""

    values: tuple[Any, ...]

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    def at(self, index: int) -> Any:
        """The value at a place."""
        return self.values[index]

    def bounds(self) -> list[Any]:
        """The values between which all others lie: here every one."""
        return list(self.values)

    def place(self, value: Any) -> int | None:
        """Where the value stands, however it is written; None where it is none of them."""
        places = (index for index, one in enumerate(self.values) if are_one(one, value))
        return next(places, None)

    def holds(self, value: Any) -> bool:
        """Whether the value is one of them."""
        return self.place(value) is not None


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, both included; `log` draws their logarithm."""

    low: float
    high: float
    step: float | None = None
    log: bool = False
    whole: bool = False

    @property
    def size(self) -> float:
        """How many values there are."""
        step = self.step or (1 if self.whole else 0)
        if self.low == self.high:
            return 1
        return _steps(self.low, self.high, step) + 1 if step else math.inf

    def at(self, index: int) -> float:
        """The number so many steps above `low`."""
        return self.rounded(self.low + index * (self.step or 1))

    def bounds(self) -> list[float]:
        """The values between which all others lie."""
        return [self.low, self.high]

    def holds(self, value: Any) -> bool:
        """Whether the value is one of those that can be drawn: between the ends, whole if they are, on a step."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        steps = (value - self.low) / self.step if self.step else 0
        whole = not self.whole or float(value).is_integer()
        return whole and self.low <= value <= self.high and abs(steps - round(steps)) < SLACK

    def rounded(self, number: float) -> float:
        """The number as it is written into a folder's name, within the ends; more digits where these are close."""
        if self.whole:
            return round(number)
        largest, width = max(abs(self.low), abs(self.high)), self.high - self.low
        closeness = math.floor(math.log10(largest / width)) if width and not self.step else 0
        digits = STEP_DIGITS if self.step else DIGITS + max(0, closeness)
        return min(max(float(f"{number:.{digits}g}"), self.low), self.high)


def _steps(low: float, high: float, step: float) -> int:
    return math.floor((high - low) / step + SLACK)


Dimension = Choice | Range


def known_by(value: Any) -> str:
    """What a value is known by, whichever way it is written: 8 and 8.0 are one, true and 1 are two.

    >>> known_by([8.0, True]) == known_by([8, True])
    True
    """
    return json.dumps(_plain(value), sort_keys=True)


def are_one(value: Any, other: Any) -> bool:
    """Whether two values are known by the same, however they are written; most are simply the same, which is quick."""
    return value is other or known_by(value) == known_by(other)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < EXACT else value


def read_space(meant: Values, base: Values, declared: Declarations, path: Path) -> dict[str, Dimension]:
    """What `search.json`, at `path`, says of each hyperparameter; a name that begins with `_` is a comment."""
    keys = {**declared.keys, **KEYS}
    space = {}
    for name, values in meant.items():
        if not name.startswith("_"):
            _check_name(name, {*keys, *base}, declared.names, path)
            space[name] = _dimension(name, values, keys, base, path)
    return space


def _check_name(name: str, known: set[str], read: set[str], path: Path) -> None:
    """Refuse what cannot vary, and a slip of the keys: a name like a known one that stands nowhere in the task."""
    if name in ONE_FOR_ALL:
        raise UserError(f'{path}: "{name}" stands in the space; {ONE_FOR_ALL[name]}')
    if name not in known | read and (guess := nearest(name, known, likeness=0.8)):
        raise UserError(f'{path}: "{name}" is in no params; did you mean "{guess}"?')


def _dimension(name: str, meant: Any, keys: Mapping[str, Key], base: Values, path: Path) -> Dimension:
    """What is said of one hyperparameter: a list of values, or an object with `min` and `max`."""
    if isinstance(meant, list) and meant:
        values = [checked(keys[name], value, path) if name in keys else value for value in meant]
        if len(set(map(known_by, values))) < len(values):
            raise UserError(f'{path}: "{name}" has the same value twice')
        return Choice(tuple(values))
    if isinstance(meant, dict) and {"min", "max"} <= meant.keys() <= {"min", "max", "step", "log"}:
        return _range(name, meant, keys, base, path)
    raise UserError(f'{path}: "{name}" must be a list of values, or {{"min": ..., "max": ...}} with "log" or "step"')


def _range(name: str, meant: Values, keys: Mapping[str, Key], base: Values, path: Path) -> Range:
    numbers = [meant[part] for part in ("min", "max", "step") if meant.get(part) is not None]
    if len(numbers) < 2 or any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
        raise UserError(f'{path}: "{name}": min, max and step must be numbers')
    low, high, step, log = meant["min"], meant["max"], meant.get("step"), meant.get("log", False)
    if low > high or (step is not None and step <= 0):
        raise UserError(f'{path}: "{name}": min must not be above max, and step be above 0')
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise UserError(f'{path}: "{name}": "log" is true or false, for a min above 0 and without a step')
    if name in keys:
        low, high = (checked(keys[name], number, path) for number in (low, high))
    meant_as = keys[name].kind if name in keys else type(base.get(name))
    whole = meant_as is not float and all(isinstance(number, int) for number in (low, high, *numbers[2:]))
    if meant_as is int and not whole:
        raise UserError(f'{path}: "{name}" is a whole number, so min, max and step must be')
    if step is not None:
        high = Range(low, high, step, whole=whole).rounded(low + _steps(low, high, step) * step)
    return Range(low, high, step, log, whole)
