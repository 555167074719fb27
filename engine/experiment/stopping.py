"""Stopping in peace: a signal lets the step under way finish and be saved; a second one stops at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from engine.system import STOP_SIGNALS


class Stopped(SystemExit):
    """The end of a run that was asked to stop: exit status 128 + the number of the signal, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.reason = signal.Signals(number).name


class Pruned(Exception):
    """The end of a trial that a search gives up, as others are ahead of it; it can still be trained on by hand."""


class StopRequest:
    """Whether a signal has asked to stop. Until `between_steps`, and in what is done `at_once`, it stops where it is.

    >>> with StopRequest() as request:
    ...     request.between_steps()
    ...     for batch in batches:
    ...         request.check()  # raises Stopped
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._at_once = True
        self._handlers: dict[int, object] = {}

    def check(self) -> None:
        """Raise `Stopped` if a signal has come."""
        if self.signal is not None:
            raise Stopped(self.signal)

    def between_steps(self) -> None:
        """From now on a signal only leaves its mark, for `check` to find."""
        self._at_once = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """For work that changes nothing, such as validation: a signal ends it where it is."""
        self.check()
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._handle) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = number
        if self._at_once:
            raise Stopped(number)
