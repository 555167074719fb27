"""What W&B or MLflow are told of a run, where params.json names one: params, the line of each epoch, the last files."""

import json
import logging
import math
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from engine.errors import UserError
from engine.experiment import BEST_SCORES, DATA, HISTORY, LAST_SCORES, LOG, PARAMS, RUN, TRACKED
from engine.hyperparameters import Values

FILES = (PARAMS, RUN, DATA, HISTORY, BEST_SCORES, LAST_SCORES, LOG)  # weights stay where they are
STATES = {"finished": "FINISHED", "failed": "FAILED"}  # in the words of MLflow; all else was stopped
MOST_AT_ONCE = 100  # params, or numbers, in one request to MLflow


class Told(NamedTuple):
    """How a run is known elsewhere: the trials of a search have its folder in common."""

    project: str
    search: str | None
    name: str


class Service(Protocol):
    """What a tracker is asked to do; each method may raise one of `errors`."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What it raises where it cannot be reached, or will not take something."""

    def connect(self) -> None:
        """Find out whether it will take the run, which has left nothing yet."""

    def begin(self, run: str | None, record: Values) -> tuple[str, int]:
        """Begin a run, or go on with the one of this id; returns its id, and how many epochs are there."""

    def add(self, row: Values) -> None:
        """Take the line of an epoch."""

    def end(self, state: str, best: Values, files: Sequence[Path]) -> None:
        """Take what is left when a run ends, and how it does."""


class Tracker:
    """A run as it is told to a tracker; without a name it is told to none.

    A new run does not begin where its tracker cannot be reached. Any other goes on, and tells it later what it has
    missed: training never waits for it longer than a tenth of the time.
    """

    def __init__(self, name: str | None, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._service = _service(name, folder) if name is not None else None
        self._run: str | None = None
        self._record: Values = {}
        self._waiting: list[Values] = []  # lines that it has not got yet
        self._is_in_touch = False
        self._is_lost = False
        self._silent_until = 0.0

    def connect(self, before: Values) -> None:
        """Raise `UserError` if the tracker will not take a new run; `before` is on record of one that goes on."""
        known = before.get("tracker", {})
        self._run = known.get("run") if known.get("name") == self.name else None
        if self._service is not None and self._run is None:
            with _explained(self.name, self._service):
                self._service.connect()

    def begin(self, record: Values, history: Iterable[Values]) -> Values:
        """Begin the run there, or go on with it, and send what it lacks of the history.

        Returns what is to be recorded of it.
        """
        if self._service is None:
            return {}
        self._record, self._waiting = record, [*history]
        if self._run is None:
            with _explained(self.name, self._service):
                self._get_in_touch(self._service)
        self._send()
        return {"tracker": {"name": self.name, "run": self._run}}

    def add_epoch(self, row: Values) -> None:
        """Send the line of an epoch, after those that wait."""
        if self._service is not None:
            self._waiting.append(row)
            self._send()

    def end(self, state: str, best: Values) -> None:
        """Say how the run ended, with its best scores and the files that are there."""
        if self._service is not None and self._record:
            with self._patience(self._service):
                self._catch_up(self._service)
                files = [self.folder / name for name in FILES if (self.folder / name).is_file()]
                self._service.end(state, best, files)

    def _send(self) -> None:
        if self._service is not None and time.monotonic() >= self._silent_until:
            with self._patience(self._service):
                self._catch_up(self._service)

    def _catch_up(self, service: Service) -> None:
        if not self._is_in_touch:
            service.connect()
            self._get_in_touch(service)
        while self._waiting:
            service.add(self._waiting[0])
            del self._waiting[0]
        self._is_lost = False

    def _get_in_touch(self, service: Service) -> None:
        self._run, there = service.begin(self._run, self._record)
        self._waiting = [row for row in self._waiting if row["epoch"] > there]
        self._is_in_touch = True

    @contextmanager
    def _patience(self, service: Service) -> Iterator[None]:
        """Training does not end with its tracker: say once that it is gone, and try again after a while."""
        start = time.monotonic()
        try:
            yield
        except service.errors as error:
            if not self._is_lost:
                logging.warning(f"{self.name} takes nothing just now ({_first_line(error)}); training goes on")
            self._is_lost = True
            now = time.monotonic()
            self._silent_until = now + 9 * (now - start)


@contextmanager
def _explained(name: str | None, service: Service) -> Iterator[None]:
    """The errors of a tracker as one line."""
    try:
        yield
    except service.errors as error:
        off = "WANDB_MODE=offline keeps the run on disk; " if name == "wandb" else ""
        raise UserError(f'{name}: {_first_line(error)}; {off}without "tracker" in params.json there is none') from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")[:200]


def _service(name: str, folder: Path) -> Service:
    return Wandb(_told(folder), folder) if name == "wandb" else Mlflow(_told(folder), folder)


def _told(folder: Path) -> Told:
    """The project is the working folder; what trials have in common stands in their search's params.json."""
    path = Path(os.path.relpath(folder)).as_posix()
    is_trial = (folder.parent / PARAMS).is_file()
    search, _, name = path.rpartition("/") if is_trial else ("", "", path)
    return Told(Path.cwd().name, search or None, name)


class Wandb:
    """Weights & Biases; its own settings (`WANDB_MODE`, `WANDB_PROJECT`, `wandb offline`) hold.

    Offline it writes into the experiment. It does so now and then, so that what was said before a kill may be lost: a
    run that goes on says all of it again, in place of what is there.
    """

    def __init__(self, told: Told, folder: Path) -> None:
        import wandb

        self.told, self.folder = told, folder
        self.errors = (wandb.Error, OSError)
        self._wandb = wandb
        self._run: Any = None

    def connect(self) -> None:
        """Log in, where there is to be a connection."""
        if self._wandb.setup().settings.mode == "online":
            self._wandb.login(verify=True)

    def begin(self, run: str | None, record: Values) -> tuple[str, int]:
        """Steps are epochs; the server knows which one it is at, and a folder on disk is written anew."""
        told, settings = self.told, self._wandb.setup().settings
        for old in self.folder.glob(f"{TRACKED}/offline-run-*-{run}"):
            if not any(old.glob("*.synced")):
                shutil.rmtree(old)
        self._run = self._wandb.init(
            project=settings.project or re.sub(r"[/\\#?%:]", "-", told.project)[:128],
            group=settings.run_group or told.search,
            name=told.name,
            id=run,  # of its own making, the first time
            resume="allow",
            dir=self.folder,
            config=record["params"],
            reinit="create_new",  # a notebook may have one of its own
            settings=self._wandb.Settings(console="off"),  # train.log is among the files
        )
        return self._run.id, self._run.starting_step - 1

    def add(self, row: Values) -> None:
        """As it is: a line of metrics.jsonl."""
        self._run.log(row, step=row["epoch"])

    def end(self, state: str, best: Values, files: Sequence[Path]) -> None:
        """Copies of the files, which may be sent days later."""
        self._run.summary.update({f"best/{name}": score for name, score in best.items()})
        for file in files:
            shutil.copy(file, self._run.dir)
            self._run.save(str(Path(self._run.dir, file.name)), base_path=self._run.dir)
        self._run.finish(exit_code=int(state != "finished"))


class Mlflow:
    """MLflow, on whatever `MLFLOW_TRACKING_URI` names; an experiment there is a project, or a search of it."""

    def __init__(self, told: Told, folder: Path) -> None:
        # A server that is gone would hold each epoch up for minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        import mlflow

        self.told, self.folder = told, folder
        self.errors = (mlflow.MlflowException, OSError)
        self._mlflow = mlflow
        self._client: Any = None
        self._group = ""  # an experiment, in the words of MLflow
        self._run = ""

    def connect(self) -> None:
        """Find or make the place of the run; trials that begin at once would make the tables of a new store at once."""
        from filelock import FileLock

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "/".join(filter(None, (self.told.project, self.told.search)))
        with FileLock(self.folder.parent / ".mlflow.lock"):
            self._client = self._mlflow.MlflowClient()
            found = self._client.get_experiment_by_name(name)
            self._group = found.experiment_id if found else self._client.create_experiment(name)

    def begin(self, run: str | None, record: Values) -> tuple[str, int]:
        """Params are sent once, as MLflow lets nobody change them."""
        if run is not None:
            self._run = run
            self._client.update_run(run, status="RUNNING")
            return run, int(self._client.get_run(run).data.metrics.get("epoch", 0))
        origin = {"mlflow.source.name": record["command"], "mlflow.source.git.commit": record["git"]["commit"]}
        tags = {key: value for key, value in {**origin, "search": self.told.search}.items() if value}
        self._run = self._client.create_run(self._group, run_name=self.told.name, tags=tags).info.run_id
        params = record["params"].items()
        words = {_key(key): value if isinstance(value, str) else json.dumps(value) for key, value in params}
        entities = [self._mlflow.entities.Param(key, value) for key, value in words.items()]
        for start in range(0, len(entities), MOST_AT_ONCE):
            self._client.log_batch(self._run, params=entities[start : start + MOST_AT_ONCE])
        return self._run, 0

    def add(self, row: Values) -> None:
        """The numbers of a line, its epoch last: it says that all are there."""
        self._log(sorted(row.items(), key=lambda item: item[0] == "epoch"), row["epoch"])

    def end(self, state: str, best: Values, files: Sequence[Path]) -> None:
        """The files are artifacts."""
        self._log([(f"best/{name}", score) for name, score in best.items()], 0)
        for file in files:
            self._client.log_artifact(self._run, str(file))
        self._client.set_terminated(self._run, STATES.get(state, "KILLED"))

    def _log(self, items: Sequence[tuple[str, Any]], step: int) -> None:
        now = int(time.time() * 1000)
        numbers = [(key, value) for key, value in items if isinstance(value, int | float) and not math.isnan(value)]
        metrics = [self._mlflow.entities.Metric(_key(key), value, now, step) for key, value in numbers]
        for start in range(0, len(metrics), MOST_AT_ONCE):
            self._client.log_batch(self._run, metrics=metrics[start : start + MOST_AT_ONCE])


def _key(name: str) -> str:
    """A name as MLflow takes it."""
    return re.sub(r"[^\w\-. :/]", "_", name)
