"""What differs between operating systems, and nothing else."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOLDER_NAME = "pytorch-skeleton"


# What ends a run in peace: Ctrl-C, a cluster's request to end, SLURM's warning ahead of it, and a lost connection.
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)]


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder are on the disk; Windows has no way to ask for it, and no need."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def user_cache_folder() -> Path:
    """Where the user's programs keep files that can be made again; it may not be there yet."""
    if sys.platform == "win32":
        parent = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        parent = Path.home() / "Library" / "Caches"
    else:
        parent = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(parent) / FOLDER_NAME


def usable_cores() -> int:
    """The cores that this process may use: on a cluster often fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_method() -> str:
    """How processes are made that need torch: forked from a server that has imported it, where that is safe."""
    return "forkserver" if sys.platform == "linux" else "spawn"


def own_process_group() -> None:
    """Leave the group to which the terminal sends Ctrl-C; Windows has none."""
    if sys.platform != "win32":
        os.setpgid(0, 0)


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Hold back what ends a run; processes started in this block, and those they start, do not hear it at all."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_signals_through() -> None:
    """Hear again what ends a run, in a process that was started with it held back."""
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def leave_stop_signals_to_parent() -> None:
    """Have signals to stop do nothing in this process, nor reach the programs it starts: its parent acts on them.

    By a handler that does nothing: what a process ignores, the programs that it starts ignore too.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: None)
    if sys.platform != "win32":
        own_process_group()
    let_signals_through()


def end_with_parent() -> None:
    """Have this process killed when its parent dies, however that dies; only Linux can be asked for it."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():  # it died before this was asked for
            os._exit(1)


def kill_daemons() -> None:
    """Kill the processes that are to end with this one, whatever they do; nobody is to report their death any more."""
    if sys.platform != "win32":
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def out_of_reach() -> dict[str, Any]:
    """How `subprocess.Popen` starts a program to which the terminal does not send Ctrl-C."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"process_group": 0}
