"""Who is training in a folder, and how far: `status.json`, the lock, the heartbeat. Never imports torch."""

import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.experiment.names import LOCK, STATUS
from engine.experiment.records import read_object
from engine.experiment.stopping import Pruned, Stopped
from engine.files import write_json
from engine.hyperparameters import Values

HEARTBEAT_SECONDS = 10
LOST_SECONDS = 60  # without a heartbeat
NUMBER = (int, float)
KINDS: dict[str, Any] = {
    "state": str,
    "host": str,
    "pid": int,
    "updated": NUMBER,
    "epoch": int,
    "step": int,
    "seconds": NUMBER,
}


class Occupied(UserError):
    """Another process is training in the folder."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Search in a folder in this process alone. Raises `Occupied` if another one does."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder / ".search.lock", timeout=0):
            yield
    except Timeout:
        raise Occupied(f"{folder} is being searched by another process; wait for it, or stop it first") from None


class Status:
    """The state of the run in a folder: running, finished, failed, pruned or interrupted; with its epoch and step.

    >>> status = Status(folder)
    >>> with status.held():  # this process alone; the block's end is the run's end
    ...     status.write("running", epoch=3)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / STATUS
        self.lock_path = folder / LOCK
        self._facts: Values = {}  # what the file says, once this process has written it
        self._writing = threading.Lock()

    def read(self) -> Values:
        """What `status.json` says, or nothing if there never was a run; what is damaged or half written is left out."""
        said = read_object(self.path, []) if self.path.is_file() else {}
        return {key: value for key, value in said.items() if key not in KINDS or isinstance(value, KINDS[key])}

    def shown(self) -> str | None:
        """The state as it is to be shown: `interrupted` or `lost` where it says running and nobody is."""
        status = self.read()
        if status.get("state") != "running":
            return status.get("state")
        if status.get("host") != platform.node():
            return "running" if _is_fresh(status) else "lost"
        if self._is_locked():
            return "running"
        state = self.read().get("state")  # again: who has ended since holds no lock any more
        return "interrupted" if state == "running" else state

    def _is_locked(self) -> bool:
        from filelock import FileLock, Timeout

        if not self.lock_path.is_file():
            return False
        try:
            with FileLock(self.lock_path, timeout=0, is_singleton=False):
                return False
        except Timeout:
            return True

    def write(self, state: str, **facts: Any) -> None:
        """Say what state the run is in and how far it is; facts said before stay. A folder that is gone stays so."""
        if not self.folder.is_dir():
            return
        who = {"host": platform.node(), "pid": os.getpid(), "job_id": os.environ.get("SLURM_JOB_ID")}
        with self._writing:
            self._facts = {**(self._facts or self.read()), "state": state, **facts, "updated": time.time(), **who}
            write_json(self.path, self._facts)

    def end(self, error: BaseException) -> None:
        """Say in what state an error leaves the run, and why."""
        reason = str(error) if isinstance(error, Pruned | UserError) else f"{type(error).__name__}: {error}"
        if isinstance(error, Stopped):
            reason = error.reason
        self.write(outcome_of(error), reason=reason)

    def progress(self, **facts: Any) -> None:
        """Say how far the run is; epochs shorter than a second are not all written."""
        with self._writing:
            self._facts.update(facts)
        if time.time() - self._facts["updated"] > 1:
            self.write("running")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the folder for this process alone, its heartbeat going, and say at the end how the block ended.

        Raises `Occupied` if another process holds it.
        """
        from filelock import FileLock, Timeout

        status = self.read()
        known = "pid" in status and "host" in status
        who = f"process {status['pid']} on {status['host']}" if known else "another process"
        occupied = Occupied(f"{self.folder} is being trained by {who}; wait for it, or stop it first")
        if self._is_alive_elsewhere(status):
            raise occupied
        lock = FileLock(self.lock_path, is_singleton=False)
        try:
            lock.acquire(timeout=0.2, poll_interval=0.01)  # one who asks for the state holds it for a moment
        except Timeout:
            raise occupied from None
        for leftover in self.folder.glob(".*.tmp"):  # of a process that was killed while it wrote
            leftover.unlink()
        try:
            with self._outcome(), self._heartbeat():
                yield
        finally:
            with suppress(OSError):  # Windows does not let go of a file that is open
                self.lock_path.unlink()  # while it is held: who opened it in the meantime sees that it is gone
            lock.release()

    def _is_alive_elsewhere(self, status: Values) -> bool:
        """For disks where locks do not reach other computers: whether one of those was heard of lately."""
        elsewhere = status.get("host") != platform.node()
        return status.get("state") == "running" and elsewhere and _is_fresh(status)

    @contextmanager
    def _outcome(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if self._facts:
                self.end(error)
            raise
        self.write("finished", reason=None)

    @contextmanager
    def _heartbeat(self) -> Iterator[None]:
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(HEARTBEAT_SECONDS):
                if self._facts:
                    self.write("running")

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def outcome_of(error: BaseException | None) -> str:
    """The state in which a run ends that raises this error, or none."""
    states = {type(None): "finished", Pruned: "pruned", Stopped: "interrupted", KeyboardInterrupt: "interrupted"}
    return states.get(type(error), "failed")


def _is_fresh(status: Values) -> bool:
    """Whether a run was heard of lately."""
    return status.get("updated", 0) > time.time() - LOST_SECONDS
