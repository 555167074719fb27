"""Each experiment below a folder as a plain record: how far it is, how good, and from what. Never imports torch."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.experiment.monitor import recorded_monitor
from engine.experiment.names import BEST_SCORES, HISTORY, PARAMS, RUN, STATUS, TEST_SCORES
from engine.experiment.records import (
    experiment_folders,
    is_experiment,
    latest_record,
    names_in,
    read_history,
    read_object,
)
from engine.experiment.status import Status
from engine.hyperparameters import DEFAULTS, Values

AXES = ("seed", "fold")  # experiments that differ in these alone repeat one another
NUMBER = (int, float)
LARGEST = 1e300  # beyond it arithmetic fails


@dataclass(slots=True)
class Entry:
    """One experiment, as its folder tells it."""

    name: str  # path relative to the parent, posix
    folder: Path
    params: Values  # effective ones of run.json; those of params.json where nothing ran yet or run.json is damaged
    state: str | None = None  # as `Status.shown`; None where nothing ever ran
    reason: str | None = None  # why it failed, or was interrupted or pruned
    remark: str = ""  # what in the folder could not be read
    val: Values = field(default_factory=dict)  # of the best epoch; NaN is None
    test: Values = field(default_factory=dict)  # of the best checkpoint, where somebody has looked
    best_epoch: int | None = None
    epochs: int = 0
    seconds: float | None = None
    examples_per_second: float | None = None  # in the last epoch
    parameters: int | None = None
    monitor: str | None = None
    mode: str | None = None
    code: str = ""  # fingerprints of the task's files; "" where nothing is recorded
    data: str = ""

    @property
    def has_run(self) -> bool:
        """Whether the folder holds more than a `params.json` that waits for its run."""
        return bool(self.state or self.val or self.epochs or self.remark)

    @property
    def is_finished(self) -> bool:
        """Whether it came to its end, as far as anybody knows: the course's template kept no state, and lost none."""
        return self.state == "finished" or (self.state is None and self.has_run and not self.remark)

    @property
    def score(self) -> float | None:
        """The score that decides, in the best epoch; None where it never was a finite number."""
        return self.val.get(self.monitor or "")

    @property
    def repetition(self) -> tuple[Any, ...]:
        """Its seed and fold: which repetition of the same experiment it is."""
        return tuple(repr(self.params.get(axis)) for axis in AXES)


def read_entries(parent: Path) -> list[Entry]:
    """Every experiment at or below `parent`, by name; what was moved into `.old` is left out."""
    with _garbage_left_lying():
        return [_read_entry(parent, name, names) for name, names in experiment_folders(parent).items()]


def read_entry(folder: Path) -> Entry | None:
    """The one experiment in a folder, if there is one."""
    names = names_in(folder)
    return _read_entry(folder, "", names) if is_experiment(names) else None


@contextmanager
def _garbage_left_lying() -> Iterator[None]:
    """What is read is no garbage, and searching it for some, over and over, takes a third of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _read_entry(parent: Path, name: str, names: set[str]) -> Entry:
    """The experiment in the folder `name`, which holds files of these `names`."""
    folder = parent / name
    remarks: list[str] = []

    def read(file: str) -> Values:
        return read_object(f"{folder}/{file}", remarks) if file in names else {}

    run, status = latest_record(read(RUN)), read(STATUS)
    params = run.get("params") or _without_comments(read(PARAMS))
    kept = {} if HISTORY in names else read(BEST_SCORES)  # all that the course's template leaves
    monitor, mode = recorded_monitor(run, params, kept)
    best: Values = {}
    last: Values = {}
    if HISTORY in names:
        best, last = read_history(f"{folder}/{HISTORY}", f"val_{monitor}", mode, remarks)
    kept = {} if best else kept or read(BEST_SCORES)
    return Entry(
        name=name or parent.resolve().name,
        folder=folder,
        params={**DEFAULTS, **params},
        state=_state(status, folder, remarks),
        reason=" ".join(str(status["reason"]).split()) if status.get("reason") else None,
        val=_scores({key[4:]: best[key] for key in best if key.startswith("val_")} or kept),
        test=_scores(read(TEST_SCORES)),
        best_epoch=_whole(best.get("epoch")),
        epochs=_whole(last.get("epoch")) or 0,
        seconds=_number(last.get("seconds", status.get("seconds"))),
        examples_per_second=_number(last.get("examples_per_second")),
        parameters=_whole(run.get("parameters")),
        monitor=monitor,
        mode=mode,
        code=_fingerprint(run.get("code", {})),
        data=_fingerprint(run.get("data", {})),
        remark="; ".join(remarks),  # last: by now all is read
    )


def _state(status: Values, folder: Path, remarks: list[str]) -> str | None:
    """The state to be shown; only one that says `running` is worth a look at who is."""
    state = status.get("state")
    if state != "running":
        return state if isinstance(state, str) else None
    try:
        shown = Status(folder).shown()
        return shown if shown in ("interrupted", "lost") else "running"  # one that has ended since did so unseen
    except OSError:
        remarks.append("status.json says running; whether it does cannot be told")
        return "running"


def _without_comments(params: Values) -> Values:
    return {key: value for key, value in params.items() if not key.startswith("_")}


def _scores(scores: Values) -> Values:
    """Those that are numbers; None for one that is not finite."""
    return {
        sys.intern(name): _number(value) for name, value in scores.items() if value is None or isinstance(value, NUMBER)
    }


def _number(value: Any) -> float | None:
    return value if isinstance(value, NUMBER) and abs(value) < LARGEST else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and abs(value) < LARGEST else None


def _fingerprint(record: Values) -> str:
    return sys.intern(" ".join(f"{key}:{value}" for key, value in record.items()))
