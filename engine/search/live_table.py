"""What a search shows while it goes on: a few lines that change in place, and above them what has ended."""

import math
import os
import sys
import textwrap
import time
from collections import Counter
from typing import TextIO

from engine.search.outcomes import ENDED
from engine.search.trials import Trial, Trials
from engine.wording import duration

LEAST_NAME = 24  # letters of a name that are shown, however narrow the terminal
STATES = (*ENDED, "failed", "interrupted")


class LiveTable:
    """The state of all trials at the bottom of a terminal; elsewhere only a line for each trial that ends.

    >>> table = LiveTable(trials)
    >>> table.show(running=[first, second])
    >>> table.tell_end(first)
    """

    def __init__(self, trials: Trials, stream: TextIO | None = None) -> None:
        self.trials = trials
        self.stream = stream or sys.stdout
        self._start = time.monotonic()
        self._ended_before = self._ended
        self._shown: list[str] = []  # lines

    def show(self, running: list[Trial]) -> None:
        """Put the present state in the place of the one shown last."""
        if self.stream.isatty():
            width, height = self._size()
            lines = [*self._summary(len(running), width), *(self._line(trial, width) for trial in running)]
            self._replace([line[:width] for line in lines][: height - 1])

    def tell_end(self, trial: Trial) -> None:
        """Print a line that stays: how a trial has ended."""
        self.clear()
        entry = self.trials.entry(trial)
        scores = ", ".join(f"{name} {value:.4g}" for name, value in entry.val.items() if value is not None)
        told = scores if entry.state == "finished" else entry.reason or "before its first step"
        print(f"{entry.state or 'interrupted':<11} {trial.name}: {told}", file=self.stream, flush=True)

    def clear(self) -> None:
        """Take away what is shown."""
        self._replace([])

    def _replace(self, lines: list[str]) -> None:
        """Go up to the first line shown, erase from there, and print others; in one piece, so that nothing flickers."""
        columns = self._size()[0] + 1
        rows = sum(math.ceil(len(line) / columns) for line in self._shown)  # a narrower terminal has broken them
        erase = f"\x1b[{rows}F\x1b[J" if rows else ""
        self._shown = lines
        if erase or lines:
            print(erase + "".join(f"{line}\n" for line in lines), end="", file=self.stream, flush=True)

    def _size(self) -> tuple[int, int]:
        """The letters of a line, but for the last one, and the lines of the terminal as it is now."""
        size = os.get_terminal_size(self.stream.fileno()) if self.stream.isatty() else (80, 24)
        return max(size[0], 20) - 1, max(size[1], 2)

    def _summary(self, running: int, width: int) -> list[str]:
        seconds = time.monotonic() - self._start
        counts = Counter(self.trials.entry(trial).state for trial in self.trials)
        told = [f"{running} running", *(f"{counts[state]} {state}" for state in STATES if counts[state])]
        if ended := self._ended - self._ended_before:
            told.append(f"about {duration(seconds / ended * self.trials.remaining)} left")
        text = f"{self.trials.total} trials, {duration(seconds)}: {', '.join(told)}"
        lines = textwrap.wrap(text, width, subsequent_indent="  ")
        for score, best in self.trials.ranking()[:1]:
            start = f"best {self.trials.watched[0]} {score:.4g}  "
            lines.append(start + fitted(best.name, width - len(start)))
        return lines

    def _line(self, trial: Trial, width: int) -> str:
        entry = self.trials.entry(trial)
        score = f", {entry.monitor} {entry.score:.4g}" if entry.score is not None else ""
        start = f"  epoch {entry.epochs}/{trial.num_epochs}{score}  "
        return start + fitted(trial.name, width - len(start))

    @property
    def _ended(self) -> int:
        return sum(self.trials.entry(trial).state in ENDED for trial in self.trials)


def fitted(name: str, width: int) -> str:
    """The name of a trial in so many letters: long keys as their initials, and if need be without its middle.

    >>> fitted("learning_rate=0.001,num_channels=16,seed=1", 30)
    'lr=0.001,nc=16,seed=1'
    """
    width = max(width, LEAST_NAME)
    if len(name) <= width:
        return name
    parts = [part.rpartition("=") for part in name.split(",")]
    short = ",".join(f"{_initials(key)}{equals}{value}" for key, equals, value in parts)
    end = width // 2
    return short if len(short) <= width else f"{short[: width - end - 2]}..{short[-end:]}"


def _initials(key: str) -> str:
    return "".join(word[:1] for word in key.split("_")) if "_" in key else key
