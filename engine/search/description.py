"""What a search folder asks for: its `params.json`, which all trials share, and its `search.json`. No torch."""

import functools
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import UserError, did_you_mean
from engine.experiment import PARAMS, SEARCH, read_declarations
from engine.files import read_json
from engine.hyperparameters import HOW_A_TRIAL_RUNS, KEYS, Key, Values, checked, load_params
from engine.search.space import Dimension, Range, are_one, known_by, read_space

METHODS = ("grid", "random", "tpe")
PRUNINGS = ("none", "median", "halving")
SETTINGS = {
    key.name: key
    for key in (
        Key("method", str, "grid", "how configurations are chosen", choices=METHODS),
        Key("num_trials", int, None, "configurations; all of a grid if absent", low=1),
        Key("space", dict, {}, "what each hyperparameter may be"),
        Key("seeds", list, [], "a trial for each; the one of the base if there is none"),
        Key("pruning", str, "none", "when a trial is given up", choices=PRUNINGS),
        Key("keep", int, None, "configurations whose checkpoints stay; all if absent", low=1),
    )
}
COURSE_SPACE = {"learning_rate": [1e-4, 1e-3, 1e-2]}
FALLING = ("linear", "cosine", "onecycle")  # schedules whose learning rate comes down at the last epoch
LARGEST_GRID = 10_000  # beyond it are only slips, unless "num_trials" says so


@dataclass(frozen=True)
class Search:
    """What is to be tried, and how."""

    base: Values
    space: dict[str, Dimension]
    method: str = "grid"
    num_trials: int | None = None
    seeds: tuple[int, ...] = ()
    pruning: str = "none"
    keep: int | None = None
    seed: int = KEYS["seed"].default  # the draws follow from it
    keys: dict[str, Key] = field(default_factory=lambda: KEYS)  # of the engine and of the task

    @property
    def task_modules(self) -> list[str]:
        """The modules of the one task."""
        task = self.base.get("task", KEYS["task"].default)
        return [f"{task}.net", f"{task}.data_loader"]

    @property
    def cut_short(self) -> list[str]:
        """The schedules that pruning would cut off before the learning rate has come down."""
        space = self.space["schedule"].bounds() if "schedule" in self.space else [self._base["schedule"]]
        return [schedule for schedule in space if schedule in FALLING and self.pruning != "none"]

    # Which configurations there are

    @property
    def size(self) -> float:
        """How many combinations there are."""
        return math.prod(dimension.size for dimension in self.space.values())

    @property
    def wanted(self) -> float:
        """How many configurations are to be tried: no more than there are."""
        return self.size if self.num_trials is None else min(self.num_trials, self.size)

    def at(self, index: int) -> Values:
        """A combination by its place, in an order in which the last hyperparameter varies fastest."""
        values = {}
        for name, dimension in reversed(self.space.items()):
            index, place = divmod(index, int(dimension.size))
            values[name] = dimension.at(place)
        return dict(reversed(values.items()))

    def grid(self) -> Iterator[Values]:
        """Every combination, the last hyperparameter varying fastest; in a random order if what is worse is pruned.

        For along a grid each may be better than all before it, and none would be.
        """
        return map(self.at, range(int(self.size)) if self.pruning == "none" else self.shuffled())

    def shuffled(self) -> Iterator[int]:
        """The places of all combinations in a random order, which costs no more than what is taken of it."""
        generator, moved = random.Random(self.seed), dict[int, int]()
        for last in reversed(range(int(self.size))):  # Fisher and Yates, of whose list only what has moved is kept
            index = generator.randrange(last + 1)
            yield moved.get(index, index)
            moved[index] = moved.pop(last, last)

    # What params come to

    def in_effect(self, params: Values, source: str | Path) -> Values:
        """The values that count: a default for what is left out, and no more of a null that stands for nothing."""
        defaults = {key.name: key.default for key in self.keys.values()}
        given = {
            name: checked(self.keys[name], value, source) if name in self.keys else value
            for name, value in params.items()
            if not name.startswith("_") and (value is not None or name in self.keys)
        }
        return {**defaults, **given}

    def key(self, effective: Values) -> str:
        """What a configuration is known by: the values in effect on which its result depends, but for the seed."""
        aside = ({"seed"} | HOW_A_TRIAL_RUNS) - self.space.keys()
        return known_by({name: value for name, value in effective.items() if name not in aside})

    def holds(self, effective: Values) -> bool:
        """Whether values in effect, whatever the seed, are the base with a choice from this space."""
        in_space = all(one.holds(effective.get(name)) for name, one in self.space.items())
        return in_space and not self.differences(effective, [])

    def differences(self, effective: Values, varied: Iterable[str]) -> list[str]:
        """In what values in effect differ from the base, but for what is `varied`, here or otherwise."""
        names = self.space.keys() | {*varied, "seed"} | HOW_A_TRIAL_RUNS
        return differences(effective, self._base, but_for=names)

    @functools.cached_property
    def _base(self) -> Values:
        return self.in_effect(self.base, PARAMS)


def differences(one: Values, other: Values, but_for: Iterable[str] = ()) -> list[str]:
    """`num_epochs 2 -> 3` for each name whose values differ."""
    names = sorted((one.keys() | other.keys()).difference(but_for))
    differ = (name for name in names if not are_one(one.get(name), other.get(name)))
    return [f"{name} {one.get(name)} -> {other.get(name)}" for name in differ]


def read_search(parent: Path, num_trials: int | None = None) -> Search:
    """The search that a folder describes; `num_trials` stands in for the file's.

    Without a `search.json` it is the course's: three learning rates. Raises `UserError` for what makes no search.
    """
    source, path = parent / PARAMS, parent / SEARCH
    base = read_json(source)
    shared = load_params(source, base)
    settings = _read_settings(path)
    if num_trials is not None:
        settings["num_trials"] = checked(SETTINGS["num_trials"], num_trials, "--num_trials")
    declared = read_declarations(shared.task)
    space = read_space(settings.pop("space"), base, declared, path)
    load_params(source, {**base, **{name: one.bounds()[0] for name, one in space.items()}})  # may be no names of params
    seeds = tuple(_seeds(settings.pop("seeds"), path))
    search = Search(base, space, seeds=seeds, seed=shared.seed, keys={**declared.keys, **KEYS}, **settings)
    search.in_effect(base, source)  # the options of the task, too, are what they may be
    _check_method(search, path)
    return search


def _read_settings(path: Path) -> Values:
    """All settings of a `search.json`, checked, with the defaults of the table for what it leaves out."""
    written = read_json(path) if path.is_file() else {"space": COURSE_SPACE}
    settings = {name: value for name, value in written.items() if not name.startswith("_")}
    for name in settings:
        if name not in SETTINGS:
            raise UserError(f'{path}: "{name}" is no setting of a search{did_you_mean(name, SETTINGS)}')
    if "space" not in settings:
        raise UserError(f'{path}: "space" is not there: what to vary, such as {known_by(COURSE_SPACE)}')
    return {name: checked(key, settings.get(name, key.default), path) for name, key in SETTINGS.items()}


def _check_method(search: Search, path: Path) -> None:
    stepless = [key for key, one in search.space.items() if isinstance(one, Range) and one.size == math.inf]
    if search.method == "grid" and stepless:
        raise UserError(f'{path}: "{stepless[0]}" needs a "step" or a list of values in a grid')
    if search.method != "grid" and search.num_trials is None:
        raise UserError(f'{path}: method "{search.method}" needs "num_trials"')
    if search.num_trials is None and search.size > LARGEST_GRID:
        raise UserError(f'{path}: a grid of {search.size:,} configurations; say with "num_trials" how many to try')


def _seeds(meant: list[Any], path: Path) -> list[int]:
    seeds = [checked(KEYS["seed"], seed, path) for seed in meant]
    if len(set(seeds)) < len(seeds):
        raise UserError(f'{path}: "seeds" has the same seed twice')
    return seeds
