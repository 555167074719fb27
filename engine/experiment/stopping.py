"""Stopping in peace: a signal lets the step under way finish and be saved; Ctrl-C once more stops at once."""

import atexit
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from engine.system import STOP_SIGNALS

SAME_WISH_SECONDS = 2  # clusters and launchers signal a process, and then its group


class Stopped(SystemExit):
    """The end of a run that was asked to stop: exit status 128 + the number of the signal, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number
        self.reason = signal.Signals(number).name


class Pruned(Exception):
    """The end of a trial that a search gives up, as others are ahead of it; it can still be trained on by hand."""


class StopRequest:
    """Whether a signal has asked to stop. Until `between_steps`, and in what is done `at_once`, it stops where it is.

    A signal that is ignored already, as by `nohup` or in the background of a script, stays so.

    >>> with StopRequest() as request:
    ...     request.between_steps()
    ...     for batch in batches:
    ...         request.check()  # raises Stopped
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._time = 0.0  # when it came
        self._at_once = True
        self._is_over = False
        self._process = os.getpid()
        self._handlers: dict[int, Any] = {}  # those before

    def check(self) -> None:
        """Raise `Stopped` if a signal has come."""
        if self.signal is not None:
            raise Stopped(self.signal)

    def between_steps(self) -> None:
        """From now on a signal only leaves its mark, for `check` to find."""
        self._at_once = False
        self.check()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """For work that changes nothing, such as validation: a signal ends it where it is."""
        self._at_once = True
        try:
            self.check()
            yield
        finally:
            self._at_once = False
        self.check()  # for what was raised may have been caught on its way

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._handlers = {number: signal.signal(number, self._handle) for number in heard}
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._is_over = True
        if self.signal is None:
            self._restore()
        else:  # the same wish may come once more while the process ends
            atexit.register(self._ignore)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # forked from the run, it is not the run
            self._restore()
            signal.raise_signal(number)
        elif self.signal is None:
            self.signal, self._time = number, time.monotonic()
            if self._at_once:
                raise Stopped(number)
        elif time.monotonic() - self._time < SAME_WISH_SECONDS:
            pass
        elif self._is_over:
            self._restore()
            signal.raise_signal(number)
        elif number == signal.SIGINT:  # from a person; whoever else cannot wait sends SIGKILL
            os._exit(128 + number)

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _ignore(self) -> None:
        for number in self._handlers:
            signal.signal(number, signal.SIG_IGN)
