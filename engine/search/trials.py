"""The trials of a search: which there are, how far each is, which is best. A trial is the folder of an experiment."""

import hashlib
import json
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.experiment import Entry, Experiment, read_entry
from engine.files import read_json
from engine.hyperparameters import KEYS, Values, load_params
from engine.search.outcomes import ENDED, Evidence, read_curve, trial_folders
from engine.search.space import Search

LONGEST_NAME = 120  # of a folder; file systems allow 255 bytes
MOST_ATTEMPTS = 2  # of one call, for a trial whose process is killed


@dataclass
class Trial:
    """One folder: a configuration under one seed."""

    experiment: Experiment
    params: Values
    attempts: int = 0  # of this call to train it

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.experiment.folder.name

    @property
    def seed(self) -> int:
        """What its random draws follow from."""
        return self.params.get("seed", KEYS["seed"].default)

    @property
    def num_epochs(self) -> int:
        """How many epochs it is to be trained."""
        return self.params.get("num_epochs", KEYS["num_epochs"].default)


@dataclass
class Configuration:
    """A choice of hyperparameters, with a trial for each seed."""

    number: int
    params: Values  # of its trials, but for the seed
    is_wanted: bool  # lies in the space as search.json describes it now
    trials: list[Trial] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the names of its trials have in common."""
        return re.sub(r"(^|,)seed=\d+$", "", self.trials[0].name) or "base"


class Trials:
    """All trials of a search: those whose folders are there, and those that it asks for besides.

    >>> trials = Trials(Path("experiments/learning_rate"), search)
    >>> trials.add(0, {"learning_rate": 0.001})
    >>> while (trial := trials.due(busy=set())) is not None:
    ...     trial.attempts += 1  # and train it
    """

    def __init__(self, parent: Path, search: Search) -> None:
        self.parent = parent
        self.search = search
        self.configurations: list[Configuration] = []
        self._by_key: dict[str, Configuration] = {}
        self._ended: dict[str, Entry] = {}
        for experiment, params in sorted(trial_folders(parent), key=lambda pair: pair[1]["_trial"]):
            self._take(Trial(experiment, params))
        for configuration in list(self.configurations):
            if configuration.is_wanted:
                self.add(configuration.number, {name: configuration.params[name] for name in search.space})
            else:
                _check_base(configuration.trials[0], self._shared, search)

    @property
    def _shared(self) -> Values:
        """What all trials have in their params, but for what varies."""
        return {"threads": 1, **{key: value for key, value in self.search.base.items() if not key.startswith("_")}}

    def add(self, number: int, values: Values) -> bool:
        """Ask for a configuration, a trial for each seed; returns whether any of them is new.

        Raises `UserError` for params that cannot be, and if a folder of that name holds others.
        """
        is_new = False
        for seed in self.search.seeds or (None,):
            varied = values if seed is None else {**values, "seed": seed}
            trial = Trial(Experiment(self.parent / trial_name(varied)), {**self._shared, **varied, "_trial": number})
            path = trial.experiment.file("params.json")
            if path.is_file():
                _check_same(path, trial.params)
            else:
                load_params(path, trial.params)
            is_new |= self._take(trial)
        return is_new

    def _take(self, trial: Trial) -> bool:
        """Put a trial among the others; not if it is there already, or is a copy that somebody made."""
        params = {key: value for key, value in trial.params.items() if key != "seed" and not key.startswith("_")}
        key = json.dumps(params, sort_keys=True)
        if key not in self._by_key:
            self._by_key[key] = Configuration(trial.params["_trial"], params, self.search.holds(params))
            self.configurations.append(self._by_key[key])
        trials = self._by_key[key].trials
        if any(other.seed == trial.seed for other in trials):
            return False
        trials.append(trial)
        trials.sort(key=self._turn)
        return True

    def _turn(self, trial: Trial) -> int:
        """When a trial's seed has its turn; those that search.json does not name come last."""
        seeds = self.search.seeds
        return seeds.index(trial.seed) if trial.seed in seeds else len(seeds)

    def __iter__(self) -> Iterator[Trial]:
        return (trial for configuration in self.configurations for trial in configuration.trials)

    @property
    def total(self) -> int:
        """How many trials there are to be, as far as is known."""
        return sum(len(one.trials) for one in self.configurations) + self._undrawn

    @property
    def remaining(self) -> int:
        """How many trials are yet to end, as far as is known; none of a configuration that is given up."""
        under_way = [trial for one in self.configurations if self.state(one) == "running" for trial in one.trials]
        return sum(self.entry(trial).state not in ENDED for trial in under_way) + self._undrawn

    @property
    def _undrawn(self) -> int:
        missing = (self.search.num_trials or 0) - sum(one.is_wanted for one in self.configurations)
        return max(0, missing) * max(1, len(self.search.seeds))

    # How far they are

    def entry(self, trial: Trial) -> Entry:
        """What the folder of a trial tells; of one that has ended, without looking again. A damaged one has failed."""
        if trial.name not in self._ended:
            folder = trial.experiment.folder
            entry = read_entry(folder) or Entry(trial.name, folder, trial.params)
            if entry.remark:
                return replace(entry, state="failed", reason=entry.remark)
            if entry.state not in ENDED:
                return entry
            self._ended[trial.name] = entry
        return self._ended[trial.name]

    def due(self, busy: set[str]) -> Trial | None:
        """The first trial that can be trained now, none of the `busy` ones."""
        for configuration in self.configurations:
            for trial in configuration.trials:
                if trial.name not in busy and self._is_due(configuration, trial):
                    return trial
        return None

    def _is_due(self, configuration: Configuration, trial: Trial) -> bool:
        state = self.entry(trial).state
        if state in ENDED or state == "running":  # elsewhere
            return False
        if trial.attempts >= (1 if state == "failed" else MOST_ATTEMPTS):
            return False
        if self.state(configuration) == "pruned":
            return False
        pilot = configuration.trials[0]
        return self.search.pruning == "none" or trial is pilot or self.entry(pilot).state == "finished"

    def is_pilot(self, trial: Trial) -> bool:
        """Whether it is the first of its configuration: the one that may be pruned."""
        return any(one.trials[0] is trial for one in self.configurations)

    def elsewhere(self) -> list[Trial]:
        """Those that are being trained just now."""
        return [trial for trial in self if self.entry(trial).state == "running"]

    def state(self, configuration: Configuration) -> str:
        """`finished` with all its trials, `pruned` or `failed` with any, else `running`."""
        states = {self.entry(trial).state for trial in configuration.trials}
        if states == {"finished"}:
            return "finished"
        return next((state for state in ("pruned", "failed") if state in states), "running")

    # How good they are

    @property
    def watched(self) -> tuple[str, str]:
        """The monitored score and whether it is better high (`max`) or low (`min`), as the first scores have it."""
        told = ((one.monitor, one.mode) for one in map(self.entry, self) if one.val and one.monitor and one.mode)
        return next(told, ("accuracy", "max"))

    def score(self, configuration: Configuration) -> float | None:
        """The mean of the monitored score over the seeds; None unless all are finished."""
        if self.state(configuration) != "finished":
            return None
        scores = [self.entry(trial).score for trial in configuration.trials]
        return None if None in scores else statistics.fmean(score for score in scores if score is not None)

    def scores(self, configuration: Configuration) -> Values:
        """The mean over the seeds of each validation score that all of them have."""
        told = [self.entry(trial).val for trial in configuration.trials]
        shared = [name for name in told[0] if all(isinstance(scores.get(name), int | float) for scores in told)]
        return {name: statistics.fmean(scores[name] for scores in told) for name in shared}

    def ranking(self) -> list[tuple[float, Configuration]]:
        """The configurations that have a score, the best first."""
        scored = [(score, one) for one in self.configurations if (score := self.score(one)) is not None]
        return sorted(scored, key=lambda pair: pair[0], reverse=self.watched[1] == "max")

    def evidence(self) -> list[Evidence]:
        """What a sampler learns from: all that is known of the configurations in the space."""
        monitor, _ = self.watched
        found = []
        for one in self.configurations:
            if one.is_wanted:
                state = self.state(one)
                curve = read_curve(one.trials[0].experiment, monitor) if state == "pruned" else {}
                values = {name: one.params[name] for name in self.search.space}
                found.append(Evidence(values, state, self.score(one), curve))
        return found

    def drop_checkpoints(self) -> None:
        """Delete the checkpoints of what has ended, but for those of the best `keep` configurations."""
        if self.search.keep is None:
            return
        best = [one for _, one in self.ranking()[: self.search.keep]]
        for configuration in self.configurations:
            if self.state(configuration) in ENDED and not any(one is configuration for one in best):
                for trial in configuration.trials:
                    for path in trial.experiment.folder.glob("*.pth.tar"):
                        path.unlink(missing_ok=True)


def trial_name(varied: Values) -> str:
    """A name for the folder that says what varies: safe on every system, and another for every other choice.

    >>> trial_name({"learning_rate": 0.001, "seed": 1})
    'learning_rate=0.001,seed=1'
    """
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in varied.items()}
    name = ",".join(f"{key}={text}" for key, text in texts.items())
    safe = _safe(name)
    ambiguous = any(isinstance(value, str) and _is_json(value) for value in varied.values())  # "1" beside 1
    if safe == name and len(name) <= LONGEST_NAME and not ambiguous and not name.endswith("."):
        return name or "base"
    seed = f",seed={varied['seed']}" if "seed" in varied else ""
    choice = {key: value for key, value in varied.items() if key != "seed"}  # it has one name, whatever the seed
    digest = hashlib.sha256(json.dumps(choice, sort_keys=True).encode()).hexdigest()[:8]
    return f"{safe.removesuffix(seed)[: LONGEST_NAME - len(seed) - 9]}-{digest}{seed}"


def _safe(text: str) -> str:
    return re.sub(r"[^\w.,=+-]", "_", text, flags=re.ASCII)


def _check_base(trial: Trial, shared: Values, search: Search) -> None:
    """Refuse a trial of an earlier space if it differs from the base in more than its name says."""
    told = {key for key in trial.params if f"{_safe(key)}=" in trial.name} | search.space.keys() | {"seed"}
    if len(trial.name) < LONGEST_NAME:  # else the end of the name may be missing
        _check_same(trial.experiment.file("params.json"), {**shared, **{key: trial.params.get(key) for key in told}})


def _check_same(path: Path, params: Values) -> None:
    """Refuse a folder that is no trial, or whose `params.json` holds other values than the trial of its name has."""
    there = read_json(path)
    if "_trial" not in there:
        raise UserError(f"{path.parent} is there already and no trial of this search; move it away")
    changes = [
        f"{key} {there.get(key)} -> {params.get(key)}"
        for key in sorted(there.keys() | params.keys())
        if not key.startswith("_") and there.get(key) != params.get(key)
    ]
    if changes:
        raise UserError(
            f"{path.parent} was made from another params.json: {', '.join(changes)}; search in a new folder, or move "
            "this one away"
        )


def _is_json(text: str) -> Any:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
