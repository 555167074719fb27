"""A search that several machines carry out together: a study in a database, through Optuna's own storage.

The database says whose each trial is, and who was heard of lately. What other machines know of their trials is written
into folders here, as they have it there, so that samplers, pruners and tables go by folders as ever.
"""

import json
import os
import random
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, OptunaError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from engine.errors import UserError
from engine.experiment import Experiment
from engine.files import replacing, write_json
from engine.hyperparameters import Values
from engine.search.company import Company, without_password
from engine.search.outcomes import ENDED
from engine.search.sampling import direction
from engine.search.trials import MOST_ATTEMPTS, Trial, Trials

PLACE = ".place"  # in the folder of a search: tells one disk from another
POLL_SECONDS = 2.0  # between two looks into the database
LOST_SECONDS = 60  # without a heartbeat of a trial, another machine takes it up
MOST_OPENINGS = 3  # in vain: of machines that begin at once, each makes the tables if they are not there
MOST_RETRIES = 3  # of a trial whose machine was lost: it may be why


class Shared(Company):
    """The trials of a search as a study in a database.

    >>> with Shared("postgresql+psycopg://user@host/database", trials) as shared:
    ...     while not shared.is_over:
    ...         shared.exchange(running)  # tell and learn how far trials are, here and elsewhere
    ...         if shared.take(trial):  # and nobody else will
    ...             shared.tell(trial)  # that it has ended
    """

    def __init__(self, url: str, trials: Trials) -> None:
        super().__init__(trials)
        with reached(url):
            self.storage = open_storage(url)
            self.study = join(self.storage, trials)
            self._study_id = self.storage.get_study_id_from_name(self.study.study_name)
        self.place = place_of(trials.parent)
        self._own: dict[str, int] = {}  # trials that this machine has taken, by name: their numbers in the database
        self._ended: list[Trial] = []  # own ones of which that is yet to be told
        self._known: dict[str, FrozenTrial] = {}  # what the database says of each trial
        self._records: dict[str, Values] = {}  # of each trial by name, as they were told or written down last
        self._next_look = 0.0
        self._is_silent = False
        self._learn()
        self._publish()
        self._learn()
        # What failed in earlier calls may be tried anew; what fails in this one is not tried by each machine
        self._failed_before = {key for key, one in self._known.items() if one.state is TrialState.FAIL}

    def __enter__(self) -> "Shared":
        return self

    def __exit__(self, *error: object) -> None:
        """Leave to others what was not trained to its end."""
        with suppress(StorageInternalError):
            for trial in [trial for trial in self.trials if trial.name in self._own]:
                state, _ = self._outcome(trial)
                self._tell(trial, TrialState.WAITING if state is TrialState.RUNNING else state)

    @property
    def is_over(self) -> bool:
        """Whether nothing is being trained elsewhere, nor is to be told."""
        is_running = any(one.state is TrialState.RUNNING for one in self._known.values())
        return super().is_over and not is_running and not self._ended

    # What is told and learned

    def exchange(self, running: Iterable[Trial]) -> None:
        """Tell how far the trials here are, and learn of those elsewhere; not too often. Without an answer from the
        database they go on, and all is told later."""
        if time.monotonic() < self._next_look:
            return
        try:
            while self._ended:
                self._tell(self._ended[0], self._outcome(self._ended[0])[0])
                del self._ended[0]
            for trial in running:
                self._beat(trial)
            with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
                optuna.storages.fail_stale_trials(self.study)
            self._publish()
            self._learn()
            self._is_silent = False
        except StorageInternalError:
            if not self._is_silent:
                print("Warning: the database does not answer; trials go on, and all is told later", flush=True)
            self._is_silent = True
        self._next_look = time.monotonic() + POLL_SECONDS

    def _beat(self, trial: Trial) -> None:
        """Say that a trial goes on, and how far it is."""
        self.storage.record_heartbeat(self._id(self._own[trial.name]))
        try:
            self._report(trial)
        except UpdateFinishedTrialError:
            self._reclaim(trial)

    def _report(self, trial: Trial) -> None:
        """Put what a folder says into the database, if that is news."""
        records = records_of(trial.experiment)
        if records != self._records.get(trial.name):
            told = self._id(self._own[trial.name])
            self.storage.set_trial_user_attr(told, "place", self.place)
            self.storage.set_trial_user_attr(told, "records", records)
            self._records[trial.name] = records

    def _learn(self) -> None:
        """Read what the database says, and write into folders what was trained elsewhere."""
        self._known = valid(self.study.get_trials(deepcopy=False))
        here = {identity(self.trials, trial): trial for trial in self.trials}
        for key, one in self._known.items():
            trial = here.get(key) or self._met(one)
            if trial.name not in self._own:
                self._write_down(one, trial)

    def _met(self, one: FrozenTrial) -> Trial:
        """A trial that another machine has added."""
        experiment = Experiment(self.trials.parent / one.user_attrs["name"])
        experiment.write_params(one.user_attrs["params"])
        return self.trials.meet(experiment, one.user_attrs["params"])

    def _write_down(self, one: FrozenTrial, trial: Trial) -> None:
        """Write into a folder what is known of a trial elsewhere; not where that trial itself writes."""
        records = one.user_attrs.get("records")
        if records and one.user_attrs["place"] != self.place and records != self._records.get(trial.name):
            trial.experiment.write_params(trial.params)
            write_records(trial.experiment, records)
            self._records[trial.name] = records

    def _publish(self) -> None:
        """Put trials into the database that are not there, those that have ended along with how they did."""
        for trial in self.trials:
            key = identity(self.trials, trial)
            if key in self._known:
                continue
            told = {"key": key, "name": trial.name, "params": trial.params}
            state, values = TrialState.WAITING, None
            if self.trials.entry(trial).state in ENDED:
                told |= {"place": self.place, "records": records_of(trial.experiment)}
                state, values = self._outcome(trial)
            self.study.add_trial(optuna.trial.create_trial(state=state, values=values, user_attrs=told))

    # Whose a trial is

    def take(self, trial: Trial) -> bool:
        """Make a trial this machine's own, if it is nobody's. One that is more than was asked for is withdrawn."""
        try:
            return trial.name in self._own or self._take(trial, identity(self.trials, trial))
        except StorageInternalError:
            return False

    def _take(self, trial: Trial, key: str) -> bool:
        if key in self._failed_before:
            self._failed_before.remove(key)
            del self._known[key]
        if key not in self._known:
            self._publish()  # with its other seeds
            self._learn()
        one = self._known[key]
        if one.state is not TrialState.WAITING:
            return False
        if self._is_surplus(one):
            self.storage.set_trial_user_attr(self._id(one.number), "key", None)
            self.storage.set_trial_state_values(self._id(one.number), TrialState.FAIL)
            self.trials.withdraw(trial)
            return False
        if not self._claim(trial, one):
            self._learn()  # another machine was faster
        return trial.name in self._own

    def _claim(self, trial: Trial, one: FrozenTrial) -> bool:
        """Make a trial that waits this machine's own, unless another one does so at the same time."""
        self.storage.record_heartbeat(self._id(one.number))  # before it is taken, lest it be nobody's for ever
        try:
            is_own = self.storage.set_trial_state_values(self._id(one.number), TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False
        if is_own:
            self._own[trial.name] = one.number
        return is_own

    def _reclaim(self, trial: Trial) -> bool:
        """Make a trial this machine's own again that others took for lost, unless one of them has begun it."""
        self._learn()
        one = self._known[identity(self.trials, trial)]
        return one.state is TrialState.WAITING and self._claim(trial, one)

    def tell(self, trial: Trial) -> None:
        """Say that a trial has ended here; one that was interrupted, and is to be tried again, has not."""
        state, _ = self._outcome(trial)
        if state is not TrialState.RUNNING or trial.attempts >= MOST_ATTEMPTS:
            self._ended.append(trial)
            self._next_look = 0.0

    def _tell(self, trial: Trial, state: TrialState) -> None:
        """Write into the database how a trial has ended, and that it is no longer this machine's own."""
        state = TrialState.FAIL if state is TrialState.RUNNING else state
        try:
            self._report(trial)
            self.storage.set_trial_state_values(self._id(self._own[trial.name]), state, self._outcome(trial)[1])
        except UpdateFinishedTrialError:
            if self._reclaim(trial):
                self._tell(trial, state)
        self._own.pop(trial.name, None)

    def _outcome(self, trial: Trial) -> tuple[TrialState, list[float] | None]:
        """How a trial has ended, as Optuna has it; `RUNNING` for one that has not."""
        entry = self.trials.entry(trial)
        if entry.state == "finished" and entry.score is not None:
            sign = 1 if direction(entry.mode or "max") == self.study.direction else -1
            return TrialState.COMPLETE, [sign * entry.score]
        states = {"finished": TrialState.FAIL, "failed": TrialState.FAIL, "pruned": TrialState.PRUNED}
        return states.get(entry.state or "", TrialState.RUNNING), None

    def _is_surplus(self, one: FrozenTrial) -> bool:
        """Whether TPE suggested it where there were enough by then: two machines may ask for the last one at once."""
        search = self.trials.search
        before = {_configuration(other) for other in self._known.values() if other.number < one.number}
        return search.method == "tpe" and _configuration(one) not in before and len(before) >= search.wanted

    def _id(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def open_storage(url: str) -> RDBStorage:
    """Optuna's storage in the database at a URL, with a heartbeat."""
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        arguments: Values = {
            "engine_kwargs": {"pool_pre_ping": True},  # a connection may have been cut in the hours between
            "heartbeat_interval": max(1, LOST_SECONDS // 6),
            "grace_period": LOST_SECONDS,
            "heartbeat_stale_trial_callback": RetryHeartbeatStaleTrialCallback(max_retry=MOST_RETRIES),
        }
        for _ in range(MOST_OPENINGS):
            with suppress(SQLAlchemyError):
                return RDBStorage(url, **arguments)
            time.sleep(random.random())
        return RDBStorage(url, **arguments)


def join(storage: RDBStorage, trials: Trials) -> optuna.Study:
    """The study of a search, made if it is not there; it is called what the folder is called on the command line."""
    search, name = trials.search, trials.parent.as_posix()
    mode = search.base.get("mode") or ("min" if search.base.get("monitor") == "loss" else "max")
    study = optuna.create_study(storage=storage, study_name=name, direction=direction(mode), load_if_exists=True)
    base = study.user_attrs.get("base")
    if base is None:
        study.set_user_attr("base", search.base)
    elif changes := search.differences(search.in_effect(base, "the database"), ()):
        raise UserError(
            f"{name}: the search in the database was begun with another params.json: {', '.join(changes)}; search in a "
            "folder of another name"
        )
    return study


@contextmanager
def reached(url: str) -> Iterator[None]:
    """Turn what a wrong URL, a missing driver or a silent database raise into one line."""
    place = without_password(url).rpartition("@")[2]
    try:
        yield
    except ImportError as error:
        way = "pip install -r requirements-postgres.txt" if url.startswith("postgresql") else str(error)
        raise UserError(f"--storage {place}: the driver of this database is not installed: {way}") from None
    except (SQLAlchemyError, OptunaError, ValueError) as error:
        cause = error.__cause__ or error
        reason = str(getattr(cause, "orig", None) or cause).strip().partition("\n")[0]
        raise UserError(f"--storage {place}: {reason}") from None


def place_of(parent: Path) -> str:
    """The mark of the folder of a search, the same for all machines that share its disk."""
    path, own = parent / PLACE, parent / f"{PLACE}.{uuid.uuid4().hex}"
    own.write_text(own.suffix[1:])
    with suppress(FileExistsError):
        os.link(own, path)  # whole at once, and by one machine alone
    own.unlink()
    return path.read_text()


def identity(trials: Trials, trial: Trial) -> str:
    """What a trial is known by on all machines: its configuration and seed, whatever its folder is called."""
    return f"{trials.search.key(trial.effective)} {trial.seed}"


def _configuration(one: FrozenTrial) -> str:
    """The part of an identity that is not the seed."""
    return one.user_attrs["key"].rpartition(" ")[0]


def valid(told: Iterable[FrozenTrial]) -> dict[str, FrozenTrial]:
    """Of each trial what counts in the database: of several, as two machines may add one at once, the first that has
    not failed, or the last."""
    found: dict[str, FrozenTrial] = {}
    for one in sorted(told, key=lambda one: one.number):
        key = one.user_attrs.get("key")
        if key is not None and (key not in found or found[key].state is TrialState.FAIL):
            found[key] = one
    return found


def records_of(experiment: Experiment) -> Values:
    """What the folder of a trial says of it: all but its checkpoints and what is for people."""
    files = [path for path in experiment.folder.glob("*.json") if path.name not in ("params.json", "data_files.json")]
    contents = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(files)}
    contents["run.json"] = _without_patch(contents.get("run.json", {}))
    return {"files": contents, "rows": experiment.history(), "status": experiment.status.read()}


def write_records(experiment: Experiment, records: Values) -> None:
    """Write into a folder what was said of a trial in another place; the status last, as it makes the others count."""
    status = records["status"]
    for name, content in records["files"].items():
        if name != "status.json":
            write_json(experiment.file(name), content)
    with replacing(experiment.file("metrics.jsonl")) as file:
        file.write("".join(json.dumps(row) + "\n" for row in records["rows"]).encode())
    if status.get("state") in ENDED:
        for path in experiment.folder.glob("*.pth.tar"):  # of an attempt that others have overtaken
            path.unlink()
    write_json(experiment.status.path, status)


def _without_patch(record: Values) -> Values:
    """A record of where a result comes from, without the text of the code."""
    kept: dict[str, Any] = {key: value for key, value in record.items() if key != "git"}
    if isinstance(record.get("git"), dict):
        kept["git"] = {"commit": record["git"].get("commit")}
    if "continued" in record:
        kept["continued"] = [_without_patch(one) for one in record["continued"]]
    return kept
