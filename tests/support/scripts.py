"""Runs the scripts in processes of their own, forked from one server that has imported torch once."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.faults import kill_family

ROOT = Path(__file__).parents[2]
WARM = ["torch", "torch._dynamo", "torch.utils.tensorboard", "torchmetrics", "train", "evaluate", "predict"]

can_fork = "forkserver" in multiprocessing.get_all_start_methods()
context = multiprocessing.get_context("forkserver" if can_fork else "spawn")
if can_fork:
    context.set_forkserver_preload([*WARM, __name__])


@dataclass
class Finished:
    """How a script ended and what it printed."""

    status: int
    stdout: str
    stderr: str


def start(
    script: str,
    *arguments: object,
    path: Path | None = None,
    cwd: Path = ROOT,
    before: Callable[[], None] | None = None,
    output: Path,
) -> multiprocessing.Process:
    """Start `python script.py arguments...` in a forked process; `path` is searched for task packages first.

    `before` is called in that process before the script begins.
    """
    words = [str(argument) for argument in arguments]
    process = context.Process(target=_script, args=(script, words, path, cwd, before, output))
    process.start()
    return process


def run(script: str, *arguments: object, output: Path, **options: Any) -> Finished:
    """Run a script to its end; its output passes through files in the folder `output`."""
    process = start(script, *arguments, output=output, **options)
    wait_for_end(process)
    return Finished(process.exitcode, (output / "stdout").read_text(), (output / "stderr").read_text())


def call(function: Callable[..., object], *arguments: object) -> int:
    """Call a function in a forked process; returns the exit status."""
    process = context.Process(target=function, args=arguments)
    process.start()
    wait_for_end(process)
    return process.exitcode


def wait_for_end(process: multiprocessing.Process, seconds: float = 300) -> None:
    """Wait for a process; it is a failure of the test if it does not end in time, and then it and all its own go."""
    process.join(seconds)
    if process.is_alive():
        kill_family(process.pid)
        raise AssertionError(f"it did not end within {seconds:.0f} seconds")


def _script(
    script: str, words: list[str], path: Path | None, cwd: Path, before: Callable[[], None] | None, output: Path
) -> None:
    """What the child does: become the script."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(output / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(cwd)
    sys.path[:0] = [str(place) for place in (path, cwd) if place is not None]
    sys.argv = [f"{script}.py", *words]
    import importlib

    import torch

    from engine.errors import run as as_script

    torch.set_num_threads(1)
    multiprocessing.set_start_method(None, force=True)  # not the server's, but what a script on this system has
    if before is not None:
        before()
    as_script(importlib.import_module(script).main)
