"""Processes that train one trial each, forked from a server that has imported torch and the task once."""

import gc
import io
import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.system import let_signals_through, own_process_group, signals_held_back, start_method, usable_cores


@dataclass
class Worker:
    """A process at work, and the device that was dealt to it."""

    process: Any
    device: str | None


class Workers:
    """So many processes at a time as `deal` says; they start with the modules of `preload` imported.

    >>> with Workers(preload=["torch", "train"]) as workers:
    ...     workers.deal(count=4, devices=["cuda:0", "cuda:1"])
    ...     workers.start("first", folder / "train.log", train_trial, folder)
    ...     ended = workers.ended(seconds=1.0)  # {"first": 0}, the exit statuses
    """

    def __init__(self, preload: Sequence[str]) -> None:
        self.devices: list[str | None] = []
        self._working: dict[str, Worker] = {}
        self._context: BaseContext = multiprocessing.get_context(start_method())
        if start_method() == "forkserver":
            # `torch.cuda.is_available()` at import, as many write it, then asks the driver and leaves the GPUs alone
            os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
            self._context.set_forkserver_preload([*preload])
            for helper in (resource_tracker, forkserver):
                with signals_held_back():  # what ends the search, and its group, must not take these from under it
                    helper.ensure_running()  # the server imports while this process goes on

    def deal(self, count: int | None, devices: str | None, meant: str) -> None:
        """Settle how many processes there are, and their devices: those named, or every GPU if `meant` is auto or cuda.

        Without a GPU there is a process for each core. Raises `UserError` if the task has touched a GPU at import, or
        cannot be imported at all.
        """
        if devices and meant not in ("auto", "cuda"):
            raise UserError(f'"device" in params.json says {meant} and --devices {devices}: take one of them out')
        gpus = [f"cuda:{index}" for index in range(self._count_gpus())] if meant in ("auto", "cuda") else []
        named: list[str | None] = [*(_names(devices, gpus) if devices else gpus)] or [None]
        count = count or (usable_cores() if named == [None] else len(named))
        self.devices = [named[index % len(named)] for index in range(count)]

    @property
    def has_room(self) -> bool:
        """Whether one more can be started."""
        return len(self._working) < len(self.devices)

    def start(self, name: str, log: Path, function: Callable[..., None], *arguments: Any) -> None:
        """Call the function in a process of its own, on a free device; its output goes to the end of `log`."""
        taken = [worker.device for worker in self._working.values()]
        device = min(self.devices, key=taken.count)
        log.open("a").close()  # where that cannot be, the search ends, and says so
        process = self._context.Process(target=_work, args=(log, device, function, arguments))  # type: ignore[attr-defined]
        process.start()
        self._working[name] = Worker(process, device)

    def ended(self, seconds: float) -> dict[str, int]:
        """The exit statuses of those that have ended, waiting for one of them at most so long."""
        if not self._working:
            time.sleep(seconds)
        multiprocessing.connection.wait([worker.process.sentinel for worker in self._working.values()], seconds)
        done = {name: worker for name, worker in self._working.items() if not worker.process.is_alive()}
        for name in done:
            del self._working[name]
        return {name: worker.process.exitcode for name, worker in done.items()}

    def stop(self) -> None:
        """Ask all to stop after the step they are at, and wait for them."""
        for worker in self._working.values():
            worker.process.terminate()
        for worker in self._working.values():
            worker.process.join()
        self._working.clear()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _count_gpus(self) -> int:
        """How many GPUs a process sees that was forked from the server, which must not have touched any."""
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_tell_gpus, args=(sender,))  # type: ignore[attr-defined]
        try:
            process.start()
            sender.close()
            touched, gpus = receiver.recv()
            process.join()
        except (EOFError, OSError):
            raise UserError("the task cannot be imported; why stands above") from None
        if touched:
            raise UserError(
                "the task touches a GPU at import, which cannot be shared with processes that are forked later; move "
                "that line of net.py or data_loader.py into a function"
            )
        return gpus


def _names(devices: str, gpus: Sequence[str]) -> list[str]:
    """The devices of a list such as `cuda:0,cuda:1`, each of which must be there."""
    names = [name.strip() for name in devices.split(",")]
    for name in names:
        if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
            raise UserError(f'--devices {devices}: "{name}" is none; name them like cuda:0,cuda:1')
        if name.startswith("cuda") and ("cuda:0" if name == "cuda" else name) not in gpus:
            raise UserError(f'--devices {devices}: "{name}" is not there; torch sees {", ".join(gpus) or "no GPU"}')
    return names


def _tell_gpus(sender: Connection) -> None:
    import torch

    count = torch.cuda.device_count()
    with suppress(BrokenPipeError):  # the search was stopped while all was imported
        sender.send((torch.cuda.is_initialized() or (torch.cuda._is_in_bad_fork() and count > 0), count))


def _work(log: Path, device: str | None, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """What a worker does: become a process like one that was typed, and call the function."""
    gc.freeze()  # what the server has imported is never garbage: looking through it would copy its memory
    own_process_group()  # signals reach the search, which passes on that it was asked to stop
    let_signals_through()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    multiprocessing.set_start_method(None, force=True)  # for loaders: what a script on this system has
    sys.stdout.flush()
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):  # what the task prints, too
        os.dup2(output, descriptor)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # so that it stands between the lines of the log
    if device is not None:
        _show_only(device)
    function(*arguments)


def _show_only(device: str) -> None:
    """Let this process see one GPU, or none for `cpu`: `cuda:1` is the second of those that are visible now."""
    kind, _, index = device.partition(":")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if kind == "cuda":
        names = visible.split(",") if visible else []  # numbers, or UUIDs
        os.environ["CUDA_VISIBLE_DEVICES"] = names[int(index or 0)].strip() if names else index or "0"
    elif kind == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _end_with_parent() -> None:
    """Stop in peace when the search is gone: nobody else would."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
