"""What a search shows while it goes on: a few lines that change in place, and above them what has ended."""

import shutil
import sys
import time
from typing import TextIO

from engine.search.outcomes import ENDED
from engine.search.trials import Trial, Trials


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
        self._ended_before = self._count(*ENDED)
        self._shown = 0  # lines

    def show(self, running: list[Trial]) -> None:
        """Put the present state in the place of the one shown last."""
        if self.stream.isatty():
            width, height = shutil.get_terminal_size()
            self.clear()
            lines = [self._summary(len(running)), *map(self._line, running)][: height - 1]
            self._shown = len(lines)
            print(*(line[: width - 1] for line in lines), sep="\n", file=self.stream, flush=True)

    def tell_end(self, trial: Trial) -> None:
        """Print a line that stays: how a trial has ended."""
        self.clear()
        entry = self.trials.entry(trial)
        scores = ", ".join(f"{name} {value:.4g}" for name, value in entry.val.items() if value is not None)
        told = scores if entry.state == "finished" else entry.reason or "before its first step"
        print(f"{entry.state or 'interrupted':<11} {trial.name}: {told}", file=self.stream, flush=True)

    def clear(self) -> None:
        """Take away what is shown."""
        if self._shown:
            print(f"\x1b[{self._shown}F\x1b[J", end="", file=self.stream, flush=True)  # up to the first line, and erase
            self._shown = 0

    def _summary(self, running: int) -> str:
        seconds = time.monotonic() - self._start
        told = [f"{running} running"]
        told += [f"{count} {state}" for state in (*ENDED, "failed", "interrupted") if (count := self._count(state))]
        if ended := self._count(*ENDED) - self._ended_before:
            told.append(f"about {readable(seconds / ended * self.trials.remaining)} left")
        for score, best in self.trials.ranking()[:1]:
            told.append(f"best {self.trials.watched[0]} {score:.4g} ({best.name})")
        return f"{self.trials.total} trials, {readable(seconds)}: {', '.join(told)}"

    def _line(self, trial: Trial) -> str:
        entry = self.trials.entry(trial)
        score = f", {entry.monitor} {entry.score:.4g}" if entry.score is not None else ""
        return f"  epoch {entry.epochs}/{trial.num_epochs}{score}  {trial.name}"  # what is long may be cut off

    def _count(self, *states: str) -> int:
        return sum(self.trials.entry(trial).state in states for trial in self.trials)


def readable(seconds: float) -> str:
    """A duration in the unit that suits it.

    >>> readable(5400)
    '1.5 h'
    """
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
