"""The space of a search: what each hyperparameter may be, and the settings of `search.json`. Never imports torch."""

import itertools
import json
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import UserError, did_you_mean
from engine.files import read_json
from engine.hyperparameters import KEYS, Values, load_params

METHODS = ("grid", "random", "tpe")
PRUNINGS = ("none", "median", "halving")
SETTINGS = ("method", "num_trials", "space", "seeds", "pruning", "keep")
COURSE_SPACE = {"learning_rate": [1e-4, 1e-3, 1e-2]}
DIGITS = 4  # significant ones of a number that is drawn, so that a folder's name tells the value
STEP_DIGITS = 12  # of one on a step: 0.3, and not 0.30000000000000004
SLACK = 1e-9  # of a step


@dataclass(frozen=True)
class Choice:
    """One of a list of values, of whatever kind."""

    values: tuple[Any, ...]

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    def grid(self) -> list[Any]:
        """All values."""
        return list(self.values)

    def bounds(self) -> list[Any]:
        """The values between which all others lie: here every one."""
        return list(self.values)

    def holds(self, value: Any) -> bool:
        """Whether the value is one of them."""
        return value in self.values


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
        return _steps(self.low, self.high, step) + 1 if step else math.inf

    def grid(self) -> list[float]:
        """The numbers that are whole steps from `low`."""
        return [self.rounded(self.low + index * (self.step or 1)) for index in range(int(self.size))]

    def bounds(self) -> list[float]:
        """The values between which all others lie."""
        return [self.low, self.high]

    def holds(self, value: Any) -> bool:
        """Whether the value is one of those that can be drawn: between the ends, whole if they are, on a step."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        steps = (value - self.low) / self.step if self.step else 0
        return self.low <= value <= self.high and abs(steps - round(steps)) < SLACK

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


@dataclass(frozen=True)
class Search:
    """What a search folder asks for: its `params.json`, which all trials share, and its `search.json`."""

    base: Values
    space: dict[str, Dimension]
    method: str = "grid"
    num_trials: int | None = None  # configurations; all of a grid if None
    seeds: tuple[int, ...] = ()  # none: the one of the base
    pruning: str = "none"
    keep: int | None = None  # configurations whose checkpoints stay; all if None
    seed: int = KEYS["seed"].default  # the draws follow from it

    def holds(self, params: Values) -> bool:
        """Whether the params of a trial, whatever its seed, are the base with a choice from this space."""
        varied = {*self.space, "seed", "threads"}
        keys = {key for key in self.base.keys() | params.keys() if not key.startswith("_")} - varied
        same = all(key in params and key in self.base and params[key] == self.base[key] for key in keys)
        return same and all(key in params and one.holds(params[key]) for key, one in self.space.items())

    def grid(self) -> Iterable[Values]:
        """Every combination, the last hyperparameter varying fastest; in a random order if what is worse is pruned.

        For along a grid each may be better than all before it, and none would be.
        """
        choices = itertools.product(*(dimension.grid() for dimension in self.space.values()))
        combinations = (dict(zip(self.space, choice, strict=True)) for choice in choices)
        if self.pruning == "none":
            return combinations
        shuffled = list(combinations)
        random.Random(self.seed).shuffle(shuffled)
        return shuffled

    @property
    def task_modules(self) -> list[str]:
        """The modules of every task that a trial may have."""
        tasks = self.space["task"].bounds() if "task" in self.space else [self.base.get("task", KEYS["task"].default)]
        return [f"{task}.{module}" for task in tasks for module in ("net", "data_loader")]

    @property
    def size(self) -> float:
        """How many combinations there are."""
        return math.prod(dimension.size for dimension in self.space.values())


def read_search(parent: Path, num_trials: int | None = None) -> Search:
    """The search that a folder describes; `num_trials` stands in for the file's.

    Without a `search.json` it is the course's: three learning rates. Raises `UserError` for what makes no search.
    """
    base = read_json(parent / "params.json")
    seed = load_params(parent / "params.json", base).seed
    path = parent / "search.json"
    settings = read_json(path) if path.is_file() else {"space": COURSE_SPACE}
    for key in settings:
        if key not in SETTINGS and not key.startswith("_"):
            raise UserError(f'{path}: "{key}" is no setting of a search{did_you_mean(key, SETTINGS)}')
    space = settings.get("space")
    if not isinstance(space, dict):
        raise UserError(f'{path}: "space" must be an object: what to vary, such as {json.dumps(COURSE_SPACE)}')
    if num_trials is None:
        num_trials = _positive(settings, "num_trials", path)
    elif num_trials < 1:
        raise UserError(f"--num_trials must be at least 1, not {num_trials}")
    search = Search(
        base,
        {key: _dimension(key, meant, base, path) for key, meant in space.items()},
        _one_of(METHODS, settings, "method", path),
        num_trials,
        _seeds(settings.get("seeds", []), path),
        _one_of(PRUNINGS, settings, "pruning", path),
        _positive(settings, "keep", path),
        seed,
    )
    _check_method(search, path)
    return search


def _check_method(search: Search, path: Path) -> None:
    stepless = [key for key, one in search.space.items() if isinstance(one, Range) and one.step is None]
    if search.method == "grid" and stepless:
        raise UserError(f'{path}: "{stepless[0]}" needs a "step" or a list of values in a grid')
    if search.method != "grid" and search.num_trials is None:
        raise UserError(f'{path}: method "{search.method}" needs "num_trials"')


def _dimension(key: str, meant: Any, base: Values, path: Path) -> Dimension:
    """What `search.json` says of one hyperparameter: a list of values, or an object with `min` and `max`."""
    if key == "seed":
        raise UserError(f'{path}: "seed" stands in the space; the seeds to take the mean over go into "seeds"')
    known = [*KEYS, *(name for name in base if not name.startswith("_"))]
    if key not in known and (hint := did_you_mean(key, known)):
        raise UserError(f'{path}: "{key}" is in no params{hint}')
    if isinstance(meant, list) and meant:
        if any(value in meant[:index] for index, value in enumerate(meant)):
            raise UserError(f'{path}: "{key}" has the same value twice')
        return Choice(tuple(meant))
    if isinstance(meant, dict) and {"min", "max"} <= meant.keys() <= {"min", "max", "step", "log"}:
        return _range(key, meant, base, path)
    raise UserError(f'{path}: "{key}" must be a list of values, or {{"min": ..., "max": ...}} with "log" or "step"')


def _range(key: str, meant: Values, base: Values, path: Path) -> Range:
    numbers = [meant[name] for name in ("min", "max", "step") if meant.get(name) is not None]
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
        raise UserError(f'{path}: "{key}": min, max and step must be numbers')
    low, high, step, log = meant["min"], meant["max"], meant.get("step"), meant.get("log", False)
    if low > high or (step is not None and step <= 0):
        raise UserError(f'{path}: "{key}": min must not be above max, and step be above 0')
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise UserError(f'{path}: "{key}": "log" is true or false, for a min above 0 and without a step')
    meant_as = KEYS[key].kind if key in KEYS else type(base.get(key))
    whole = meant_as is not float and all(isinstance(number, int) for number in numbers)
    if meant_as is int and not whole:
        raise UserError(f'{path}: "{key}" is a whole number, so min, max and step must be')
    if step is not None:
        high = Range(low, high, step, whole=whole).rounded(low + _steps(low, high, step) * step)
    return Range(low, high, step, log, whole)


def _seeds(meant: Any, path: Path) -> tuple[int, ...]:
    whole = isinstance(meant, list) and all(isinstance(seed, int) and not isinstance(seed, bool) for seed in meant)
    if not whole or len(set(meant)) < len(meant):
        raise UserError(f'{path}: "seeds" must be a list of different whole numbers, such as [1, 2, 3]')
    return tuple(meant)


def _one_of(choices: tuple[str, ...], settings: Values, key: str, path: Path) -> str:
    value = settings.get(key, choices[0])
    if value not in choices:
        hint = did_you_mean(str(value), choices)
        raise UserError(f'{path}: "{key}" must be one of {", ".join(choices)}, not {json.dumps(value)}{hint}')
    return value


def _positive(settings: Values, key: str, path: Path) -> int | None:
    value = settings.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise UserError(f'{path}: "{key}" must be a whole number of at least 1, not {json.dumps(value)}')
    return value
