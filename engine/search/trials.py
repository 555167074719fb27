"""The trials of a search: which there are, how far each is, which is best. A trial is the folder of an experiment."""

import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.errors import UserError
from engine.experiment import PARAMS, SEARCH, Entry, Experiment, read_entry
from engine.files import read_json
from engine.hyperparameters import Values
from engine.search.description import Search, differences
from engine.search.names import trial_name, without_seed
from engine.search.outcomes import ENDED, Evidence, read_curve, trial_folders

MOST_REASONS = 3  # that are told of many
MOST_ATTEMPTS = 2  # of one call, for a trial whose process is killed


@dataclass
class Trial:
    """One folder: a configuration under one seed."""

    experiment: Experiment
    params: Values  # as they are written
    effective: Values  # what they come to
    attempts: int = 0  # of this call to train it

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.experiment.folder.name

    @property
    def seed(self) -> int:
        """What its random draws follow from."""
        return self.effective["seed"]

    @property
    def num_epochs(self) -> int:
        """How many epochs it is to be trained."""
        return self.effective["num_epochs"]


@dataclass
class Configuration:
    """A choice of hyperparameters, with a trial for each seed."""

    number: int
    effective: Values  # of its trials, but for the seed
    is_wanted: bool  # lies in the space as search.json describes it now
    trials: list[Trial] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the names of its trials have in common."""
        return without_seed(self.trials[0].name)

    @property
    def params(self) -> Values:
        """What is written in its trials, but for the seed."""
        return {key: value for key, value in self.trials[0].params.items() if key != "seed" and key[:1] != "_"}


class Trials:
    """All trials of a search: those whose folders are there, and those that it asks for besides.

    A configuration is known by its values in effect, never by the name of a folder.

    >>> trials = Trials(Path("experiments/learning_rate"), search)
    >>> trials.add(0, {"learning_rate": 0.001})
    >>> while (trial := trials.due(busy=set())) is not None:
    ...     trial.attempts += 1  # and train it
    """

    def __init__(self, parent: Path, search: Search) -> None:
        self.parent = parent
        self.search = search
        self.configurations: list[Configuration] = []
        self.is_exhausted = False  # nothing is left to be suggested
        self._by_key: dict[str, Configuration] = {}
        self._by_name: dict[str, Configuration] = {}  # where letter case does not count, as on some disks
        self._ended: dict[str, Entry] = {}
        for experiment, params in sorted(trial_folders(parent), key=lambda pair: pair[1]["_trial"]):
            trial = self._found(experiment, params)
            self._take(trial, search.key(trial.effective))
        for configuration in list(self.configurations):
            if configuration.is_wanted:
                self.add(configuration.number, {name: configuration.effective.get(name) for name in search.space})

    def meet(self, experiment: Experiment, params: Values) -> Trial:
        """Count a trial in that another machine has added; its folder is there."""
        trial = self._found(experiment, params)
        self._take(trial, self.search.key(trial.effective))
        return trial

    def withdraw(self, trial: Trial) -> None:
        """Forget a configuration that was asked for, and of which nothing is there yet."""
        key = self.search.key(trial.effective)
        self.configurations.remove(self._by_key.pop(key))
        del self._by_name[without_seed(trial.name).casefold()]

    def _found(self, experiment: Experiment, params: Values) -> Trial:
        """A trial that is there. Raises `UserError` if it was made from another base."""
        path = experiment.file(PARAMS)
        trial = Trial(experiment, params, self.search.in_effect(params, path))
        _refuse(path, self.search.differences(trial.effective, varied=params.get("_varied", ())))
        return trial

    def add(self, number: int, values: Values) -> bool:
        """Ask for a configuration, a trial for each seed; returns whether any of them is new.

        Raises `UserError` if the folder that one is to have holds something else.
        """
        base = {key: value for key, value in self.search.base.items() if not key.startswith("_")}
        params = {"threads": 1, **base, **values, "_trial": number, "_varied": [*values]}
        effective = self.search.in_effect(params, self.parent / SEARCH)
        there = self._by_key.get(key := self.search.key(effective))
        if there is not None:  # its further trials are written and named as it is
            params = {**params, **there.params, "_varied": there.trials[0].params.get("_varied", [*values])}
        if not self.search.seeds:
            return self._add_trial(params, effective, key)
        seeds = self.search.seeds
        return sum([self._add_trial({**params, "seed": one}, {**effective, "seed": one}, key) for one in seeds]) > 0

    def _add_trial(self, params: Values, effective: Values, key: str) -> bool:
        """Ask for a trial of the configuration that is known by `key`; returns whether it is new."""
        names = [*params["_varied"], *(["seed"] if self.search.seeds else [])]
        varied = {name: params[name] for name in names if name in params}
        there = self._by_key.get(key)
        owner = self._by_name.get(without_seed(trial_name(varied)).casefold(), there)
        experiment = Experiment(self.parent / trial_name(varied, is_taken=owner is not there))
        trial = Trial(experiment, params, effective)
        if not self._take(trial, key):
            return False
        if (path := experiment.file(PARAMS)).is_file():
            _refuse_other(path, trial, self.search)
        return True

    def _take(self, trial: Trial, key: str) -> bool:
        """Put a trial among the others; not if it is there already, or is a copy that somebody made."""
        if key not in self._by_key:
            is_wanted = self.search.holds(trial.effective)
            self._by_key[key] = Configuration(trial.params["_trial"], trial.effective, is_wanted)
            self.configurations.append(self._by_key[key])
        trials = self._by_key[key].trials
        if any(other.seed == trial.seed for other in trials):
            return False
        trials.append(trial)
        trials.sort(key=self._turn)
        self._by_name.setdefault(without_seed(trial.name).casefold(), self._by_key[key])
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
        if self.is_exhausted or self.search.num_trials is None:
            return 0
        missing = self.search.wanted - sum(one.is_wanted for one in self.configurations)
        return max(0, int(missing)) * max(1, len(self.search.seeds))

    # How far they are

    def entry(self, trial: Trial) -> Entry:
        """What the folder of a trial tells; of one that has ended, without looking again. A damaged one has failed."""
        if trial.name not in self._ended:
            folder = trial.experiment.folder
            entry = read_entry(folder) or Entry(trial.name, folder, trial.params)
            if entry.state == "finished" and not entry.epochs:  # it has ended while it was looked at
                entry = read_entry(folder) or entry
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
        entries = (one for one in map(self.entry, self) if one.val and one.monitor and one.mode)
        told = {(str(one.monitor), str(one.mode)): one.folder.name for one in entries if one.state != "failed"}
        if len(told) > 1:
            watched = "; ".join(f"{name}: {monitor} ({mode})" for (monitor, mode), name in told.items())
            raise UserError(
                f"{self.parent}: trials watch different scores, and cannot be ranked by one: {watched}; name one with "
                '"monitor" and "mode" in the params.json of a new folder'
            )
        return next(iter(told), ("accuracy", "max"))

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

    def without_score(self) -> str:
        """Why no configuration has a score, the most frequent reasons first."""
        entries = [entry for entry in map(self.entry, self) if entry.state]
        reasons = Counter(
            f"{one.monitor} was a finite number in no epoch" if one.state == "finished" else one.reason or one.state
            for one in entries
        )
        told = [f"{reason} ({count} of {len(entries)} trials)" for reason, count in reasons.most_common(MOST_REASONS)]
        return "; ".join(told) or "no trial was trained"

    def evidence(self) -> list[Evidence]:
        """What a sampler learns from: all that is known of the configurations in the space."""
        monitor, _ = self.watched
        found = []
        for one in self.configurations:
            if one.is_wanted:
                state = self.state(one)
                curve = read_curve(one.trials[0].experiment, monitor) if state == "pruned" else {}
                values = {name: one.effective.get(name) for name in self.search.space}
                found.append(Evidence(values, state, self.score(one), curve))
        return found

    def drop_checkpoints(self) -> None:
        """Delete the checkpoints of what has ended, but for those of the best `keep` configurations."""
        if self.search.keep is None:
            return
        ended = [
            one for one in self.configurations if self.state(one) in ENDED
        ]  # before they are ranked: others end now
        best = [one for _, one in self.ranking()[: self.search.keep]]
        for configuration in ended:
            if not any(one is configuration for one in best):
                for trial in configuration.trials:
                    for path in trial.experiment.folder.glob("*.pth.tar"):
                        path.unlink(missing_ok=True)


def _refuse_other(path: Path, trial: Trial, search: Search) -> None:
    """Refuse a folder that holds another trial than the one that is to have it, or none."""
    written = read_json(path)
    if "_trial" not in written:
        raise UserError(f"{path.parent} is there already and no trial of this search; move it away")
    _refuse(path, differences(search.in_effect(written, path), trial.effective))


def _refuse(path: Path, changes: list[str]) -> None:
    """Refuse a folder whose `params.json` holds other values than it is to have."""
    if changes:
        raise UserError(
            f"{path.parent} was made from another params.json: {', '.join(changes)}; search in a new folder, or move "
            "this one away"
        )
