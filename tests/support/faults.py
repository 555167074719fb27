"""Ways to die: a process that is to be killed arranges for it, and then runs as it would have."""

import ctypes
import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_for


def die() -> None:
    """Be gone at once, with nothing written, closed or said."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at_replace(number: int, after: bool) -> None:
    """Die at the `number`-th time (from 1) that a file is to take another's place: right before it, or right after."""
    replace = os.replace
    calls = 0

    def counted(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == number and not after:
            die()
        replace(*arguments)
        if calls == number:
            die()

    os.replace = counted  # type: ignore[assignment]


def kill_at_sync(number: int) -> None:
    """Die at the `number`-th time that something is to be made sure to be on the disk: the file is half there."""
    sync = os.fsync
    calls = 0

    def counted(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            die()
        sync(descriptor)

    os.fsync = counted  # type: ignore[assignment]


def act_at_batch(number: int, action: Callable[[], None], training: bool = True) -> None:
    """Do something in the forward pass of the `number`-th batch, in training or in validation."""
    from torch import nn

    call = nn.Sequential.forward
    calls = 0

    def counted(self: nn.Sequential, inputs: Any) -> Any:
        nonlocal calls
        calls += self.training == training
        if self.training == training and calls == number:
            action()
        return call(self, inputs)

    nn.Sequential.forward = counted  # type: ignore[method-assign]


def signal_self(*numbers: int) -> None:
    """Get signals, one after the other."""
    for number in numbers:
        os.kill(os.getpid(), number)


def wait(sign: Path) -> None:
    """Leave a sign, and do nothing for a minute."""
    sign.touch()
    time.sleep(60)


def limit_file_size(size: int) -> None:
    """Let no file grow beyond `size` bytes, which is what a full disk looks like to who writes."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def encode_as(encoding: str) -> None:
    """Print as to a terminal that knows no other letters."""
    sys.stdout.reconfigure(encoding=encoding, errors="strict")


def lose_privileges() -> None:
    """Have no more rights than the modes of files give, as an administrator has; they are Linux's own affair."""
    if os.geteuid() == 0:
        version_3_of_this_process, no_capabilities = struct.pack("Ii", 0x20080522, 0), bytes(24)
        assert ctypes.CDLL(None).capset(version_3_of_this_process, no_capabilities) == 0


def nothing() -> None:
    """Go on."""


def both(first: Callable[[], None], second: Callable[[], None]) -> None:
    """Do one thing, and then the other."""
    first()
    second()


def once(sign: Path, action: Callable[[], None]) -> None:
    """Do something the first time only; the sign tells the next process."""
    if not sign.exists():
        sign.touch()
        action()


def fork_workers() -> None:
    """Let a search fork its workers from its own process, which is as warm here as its server would be."""
    import engine.search.workers

    engine.search.workers.start_method = lambda: "fork"  # type: ignore[assignment]


def lose_machines_soon() -> None:
    """Let a machine be taken for lost after seconds, in place of a minute."""
    import engine.search.sharing

    engine.search.sharing.LOST_SECONDS = 8
    engine.search.sharing.POLL_SECONDS = 0.3


def lose_processes_soon() -> None:
    """Let a process of several be told of after a second, and be taken for lost after some more, not after a minute."""
    import engine.training.presence as presence

    presence.BEAT_SECONDS, presence.TELL_SECONDS, presence.LOST_SECONDS = 0.2, 1.0, 6.0


def stop_until(condition: Callable[[], object]) -> None:
    """Stand still as a whole, with all threads, until something has come to pass that others do."""
    process = os.getpid()
    if os.fork() == 0:
        try:
            wait_for(condition)
        finally:
            os.kill(process, signal.SIGCONT)
            os._exit(0)
    os.kill(process, signal.SIGSTOP)


def kill_family(pid: int) -> None:
    """Have a process and all that it has started be gone at once, as when their machine is."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    for member in family:
        os.kill(member, signal.SIGSTOP)  # lest one notice that another is gone
    for member in family:
        os.kill(member, signal.SIGKILL)
