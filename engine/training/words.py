"""The words that the processes of a run leave for one another at the store of their launcher, above all the last."""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from engine import launcher
from engine.errors import Lost, ToldElsewhere
from engine.experiment import Stopped
from engine.training.presence import GOES_ON, Presence

Result = TypeVar("Result")

LAST_WORDS_SECONDS = 2.0  # within which a process that has ended said why, if it ever will
ANSWER_SECONDS = 10.0  # within which the store answers, if it is there
POLL_SECONDS = 0.02
ENDED, SIGNAL = "ended", "signal"  # the keys of last words: an error, or a stop that was asked for
ENDED_SILENTLY = f"another process of this run has ended without a word (killed, or out of memory?); {GOES_ON}"


class Words:
    """What is said by way of a store, whose machine may be gone; `presence` is who is there."""

    def __init__(self, store: Any, presence: Presence) -> None:
        self._store = store
        self._presence = presence
        self._has_told = False  # how the run ends, or knows that all know

    def leave(self, key: str, words: str = "") -> None:
        """Leave a word."""
        self._store.set(key, words)

    def leave_as_last(self, key: str, count: int) -> None:
        """Leave it once so many processes have come to this place."""
        if self._store.add(f"{key}/count", 1) == count:
            self.leave(key)

    def said(self, key: str) -> str | None:
        """A word that was left, if there is one and it can be had."""
        return self._ask(lambda: self._store.get(key).decode() if self._store.check([key]) else None)

    def tell(self, key: str, words: str) -> bool:
        """Leave last words; returns whether they are the first of this kind."""
        if self._has_told:
            return True
        number = self._ask(lambda: self._store.add(f"{key}/count", 1))
        if number == 1:
            self._ask(lambda: self.leave(key, words))
        is_cut_off = number is None  # then one of each machine speaks
        self._has_told = launcher.local_rank() == 0 if is_cut_off else number == 1
        return self._has_told

    @property
    def others_have_failed(self) -> bool:
        """Whether another process has said that it failed."""
        return not self._has_told and self.said(ENDED) is not None

    def last(self, otherwise: str = "") -> BaseException:
        """Why another process has ended, by what it said; if it says nothing, what this one makes of it."""
        until = time.monotonic() + LAST_WORDS_SECONDS
        while time.monotonic() < until:
            if (words := self.said(ENDED)) is not None:
                return ToldElsewhere(words)
            if (number := self.said(SIGNAL)) is not None:
                self._has_told = True
                return Stopped(int(number))
            time.sleep(POLL_SECONDS)
        return Lost(otherwise or ENDED_SILENTLY)

    def _ask(self, question: Callable[[], Result]) -> Result | None:
        """What the store answers; nothing if its machine is gone, where the question itself would wait for ever."""
        answers: list[Result] = []

        def ask() -> None:
            with contextlib.suppress(RuntimeError):
                answers.append(question())

        if not self._presence.is_cut_off:
            thread = threading.Thread(target=ask, daemon=True)
            thread.start()
            thread.join(ANSWER_SECONDS)
            self._presence.is_cut_off = thread.is_alive()
        return answers[0] if answers else None
