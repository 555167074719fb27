"""Which of several processes are there, and where each is in its code: a thread in each tells the others.

One that is slow is waited for, and the first says which it is and where. One of which nothing is heard, as it was
stopped as a whole (by SIGSTOP, by a disk that hangs) or its machine is gone, ends the run.
"""

import json
import logging
import platform
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from engine.wording import duration

BEAT_SECONDS = 2.0
TELL_SECONDS = 10.0  # of waiting, after which it is said for whom
LOST_SECONDS = 60.0  # without a sign: a call that keeps Python's lock, or a disk that hangs a while, is not so long
PATIENCE_SECONDS = 25 * 60.0  # with one that is alive: less than the half hour after which Gloo ends it without a word
GOES_ON = "the same command goes on from the last checkpoint"
WAITING = [Path(__file__).with_name(name) for name in ("processes.py", "words.py")]  # which says not where one is
FIRST_IS_GONE = f"the first machine of this run, or the launcher on it, can no longer be reached; {GOES_ON}"


class Beat(NamedTuple):
    """What a process says of itself."""

    number: int
    calls: int  # to all others, that it has begun
    host: str
    place: str  # where it is in its code


class Presence:
    """What this process says of itself to the others, and what it makes of what they say."""

    def __init__(self, rank: int, count: int, store: Any) -> None:
        self.rank, self.count = rank, count
        self.calls = 0  # to all others, that the main thread has begun
        self.lost: str | None = None  # why the run cannot go on
        self.is_cut_off = False  # the store does not answer, and who asks it waits for ever
        self._store = store.clone()  # a connection of its own: another thread may wait at the first one
        self._main, self._folder = threading.get_ident(), Path.cwd()  # which may go, and nobody is to be lost for it
        self._beats = [Beat(0, 0, "", "")] * count  # the latest of each
        self._silent = [0.0] * count  # for how many seconds each has not been heard of
        self._waited, self._waited_for = 0.0, (0, [0])  # how long by now, at which call and for whom
        self._tell_at = TELL_SECONDS
        self._rounds = self._rounds_seen = 0
        self._unanswered, self._looked = 0.0, time.monotonic()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._beat(0)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tell and listen throughout the block."""
        self._thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            self._thread.join(BEAT_SECONDS)  # it may hang at a store that does not answer

    def look(self) -> str | None:
        """Why the run cannot go on, if it is so; for who waits to ask, a second or less after he asked before.

        The time is counted, here and in the thread, in which this process was running: it may have been stopped itself,
        together with the others, and go on.
        """
        now, before, self._looked = time.monotonic(), self._looked, time.monotonic()
        is_answered, self._rounds_seen = self._rounds != self._rounds_seen, self._rounds
        self._unanswered = 0.0 if is_answered else self._unanswered + min(now - before, 1.0)
        if self._unanswered >= LOST_SECONDS:
            self.is_cut_off, self.lost = True, FIRST_IS_GONE
        return self.lost

    def _run(self) -> None:
        keys = [f"beat/{rank}" for rank in range(self.count)]
        while not self._is_over.wait(BEAT_SECONDS):
            self._rounds += 1
            try:
                self._beat(self._rounds)
                self._hear([Beat(*json.loads(said)) for said in self._store.multi_get(keys)])
            except RuntimeError:
                self.is_cut_off, self.lost = True, FIRST_IS_GONE
                return

    def _beat(self, number: int) -> None:
        own = Beat(number, self.calls, platform.node(), place_of(self._main, self._folder))
        self._store.set(f"beat/{self.rank}", json.dumps(own))

    def _hear(self, beats: list[Beat]) -> None:
        """Take note of what all have said: who is silent, and who is behind the others in what they do together."""
        for rank, (beat, before) in enumerate(zip(beats, self._beats, strict=True)):
            self._silent[rank] = 0.0 if beat != before else self._silent[rank] + BEAT_SECONDS
        self._beats = beats
        call = max(beat.calls for beat in beats)
        behind = [rank for rank, beat in enumerate(beats) if beat.calls < call]
        is_same_wait = behind and (call, behind) == self._waited_for
        self._waited_for, self._waited = (call, behind), self._waited + BEAT_SECONDS if is_same_wait else 0.0
        if self._waited >= self._tell_at:
            self._tell_at = 3 * self._waited  # seldom, of many waits too
            with suppress(OSError, ValueError):  # a full disk is not for this thread to tell
                self._tell([self._wait(rank) for rank in behind])
        if self._waited >= PATIENCE_SECONDS:
            waited = f"the others have waited {duration(self._waited)}"
            self.lost = f"{self._name(behind[0])} {self._state(behind[0])}, for too long: {waited}; {GOES_ON}"
        for rank, seconds in enumerate(self._silent):
            if seconds >= LOST_SECONDS:
                self.lost = f"{self._name(rank)} {self._state(rank)}; it is stopped, or its machine is gone; {GOES_ON}"

    def _tell(self, lines: list[str]) -> None:
        """Say something to people, once for all processes: the first does, or if it is silent the next."""
        speaker = next(rank for rank, seconds in enumerate(self._silent) if seconds < TELL_SECONDS)
        for line in lines if self.rank == speaker else ():
            if self.rank == 0:
                logging.warning(line)
            else:  # it has no log
                print(line, file=sys.stderr, flush=True)

    def _wait(self, rank: int) -> str:
        return f"Waiting for {self._name(rank)}, for {duration(self._waited)} now: it {self._state(rank)}"

    def _name(self, rank: int) -> str:
        return f"rank {rank} of {self.count} on {self._beats[rank].host}"

    def _state(self, rank: int) -> str:
        place, silent = self._beats[rank].place, self._silent[rank]
        if silent < TELL_SECONDS:
            return f"is {place}"
        return f"has given no sign of life for {duration(silent)}, and was {place}"


def place_of(thread: int, folder: Path) -> str:
    """Where a thread is: the innermost line that is of the project, and what it has called there that is not.

    What lies in the folder is named from there.
    """
    called, libraries = "", sysconfig.get_path("stdlib")
    for frame, line in traceback.walk_stack(sys._current_frames()[thread]):  # from the innermost on
        name, path = frame.f_code.co_name, Path(frame.f_code.co_filename)
        is_library = path.is_relative_to(libraries) or "site-packages" in path.parts or path in WAITING
        if path.is_absolute() and not is_library:
            shown = path.relative_to(folder) if path.is_relative_to(folder) else path
            return f"in {name}, {shown}:{line}{called}"
        called = f", and there in {name} of {path.name}"
    return "in no code of this project"
