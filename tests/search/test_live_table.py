"""What a search shows in a terminal while it goes on: whole at 80 columns, and nothing stale when that changes."""

import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import time

import pytest

from engine.search.description import read_search
from engine.search.live_table import LiveTable, fitted
from engine.search.trials import Trials
from tests.support.made_runs import make_run
from tests.support.scripts import ROOT

SPACE = {"learning_rate": [0.0246, 0.00128], "num_channels": [16, 128], "weight_decay": [0.05]}
SHOWING = """
import sys, time
from pathlib import Path
from engine.search import LiveTable, Trials, read_search
parent, count = Path(sys.argv[1]), Path(sys.argv[2])
trials = Trials(parent, read_search(parent))
table = LiveTable(trials)
print("before it\\n" * 30)  # as in a terminal that has been in use
while number := int(count.read_text() or 1):
    table.show([trial for trial in trials if trials.entry(trial).state == "interrupted"][:number])
    time.sleep(0.1)
table.clear()
print("after it", flush=True)
time.sleep(60)
"""


@pytest.fixture
def parent(tmp_path):
    """A search of eight trials: three are finished, one is pruned, two have failed, two are under way."""
    parent = tmp_path / "search"
    parent.mkdir()
    (parent / "params.json").write_text(json.dumps({"num_epochs": 27}))
    (parent / "search.json").write_text(json.dumps({"space": SPACE, "seeds": [1, 2]}))
    trials = Trials(parent, search := read_search(parent))
    for number, values in enumerate(search.grid()):
        trials.add(number, values)
    states = ["finished", "finished", "finished", "pruned", "failed", "failed", "interrupted", "interrupted"]
    for number, (trial, state) in enumerate(zip(trials, states, strict=True)):
        params = {key: value for key, value in trial.params.items() if key[0] != "_"}
        make_run(trial.experiment.folder, [0.9011 + number / 100], state, params=params, status={"reason": "others"})
        trial.experiment.file("params.json").write_text(json.dumps(trial.params))
    return parent


@pytest.fixture
def screen(parent, tmp_path):
    """A terminal in which the search is shown: `screen.resize(50)`, `screen.wait_for(lambda lines: ...)`."""
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux, a terminal that can be looked at")
    screen = Screen(tmp_path / "tmux", parent, tmp_path / "count")
    yield screen
    screen.tmux("kill-server")


class Screen:
    """A window of tmux."""

    def __init__(self, socket, parent, count):
        self.socket, self.count = socket, count
        self.run(2)
        (self.socket.parent / "showing.py").write_text(SHOWING)
        command = [sys.executable, str(self.socket.parent / "showing.py"), str(parent), str(count)]
        environment = ["env", f"PYTHONPATH={ROOT}", "LC_ALL=C.UTF-8"]
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", *environment, *command)

    def tmux(self, *words):
        environment = {key: value for key, value in os.environ.items() if key != "TMUX"}
        done = subprocess.run(["tmux", "-S", self.socket, *words], capture_output=True, text=True, env=environment)
        return done.stdout

    def run(self, number):
        self.count.write_text(str(number))

    def resize(self, width):
        self.tmux("resize-window", "-x", str(width), "-y", "24")

    def lines(self):
        return [line.rstrip() for line in self.tmux("capture-pane", "-p", "-S", "-").splitlines() if line.strip()]

    def wait_for(self, condition):
        deadline = time.monotonic() + 30
        while not condition(lines := self.lines()):
            assert time.monotonic() < deadline, "\n".join(lines)
            time.sleep(0.05)
        return lines


def test_nothing_is_stale_whatever_becomes_of_the_terminal(screen):
    def shown(lines, running):
        return sum("epoch" in line for line in lines) == running and sum("8 trials" in line for line in lines) == 1

    lines = screen.wait_for(lambda lines: shown(lines, 2))
    for width in (60, 100, 44, 43, 80, 200, 41):
        screen.resize(width)
        time.sleep(0.3)  # drawn again some times
        lines = screen.wait_for(lambda lines: shown(lines, 2))
        assert lines[:31].count("before it") == 30
        assert width < 60 or sum("seed=" in line for line in lines) == 2
        assert sum("accuracy 0.96" in line or "accuracy 0.97" in line for line in lines) == 2
    screen.run(1)
    screen.wait_for(lambda lines: shown(lines, 1))
    screen.run(0)
    assert screen.wait_for(lambda lines: "after it" in lines) == [*["before it"] * 30, "after it"]


@pytest.fixture
def terminal():
    """A pseudo-terminal of so many columns: `stream, read = terminal(80)`."""
    with contextlib.ExitStack() as stack:

        def make(columns):
            ours, theirs = pty.openpty()
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            stream = stack.enter_context(open(theirs, "w"))
            stack.callback(os.close, ours)
            return stream, lambda: os.read(ours, 100_000).decode().replace("\r\n", "\n")

        yield make


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_score_and_no_seed_is_cut(parent, terminal, columns):
    trials = Trials(parent, read_search(parent))
    stream, read = terminal(columns)
    table = LiveTable(trials, stream)
    under_way = [trial for trial in trials if trials.entry(trial).state == "interrupted"]
    table.show(under_way)
    lines = read().splitlines()
    assert max(map(len, lines)) < columns
    text = " ".join(line.strip() for line in lines)
    assert re.match(
        r"8 trials, [\d.]+ s: 2 running, 3 finished, 1 pruned, 2 failed, 2 interrupted best accuracy 0\.9061  l", text
    )
    for seed, score in ((1, "0.9611"), (2, "0.9711")):
        (line,) = (line for line in lines if f"seed={seed}" in line)
        assert line.startswith(f"  epoch 1/27, accuracy {score}  l")
        assert "=0.00128," in line
        assert ("learning_rate=0.00128,num_channels=128,weight_decay=0.05" in line) == (columns == 120)
    table.show(under_way[:1])
    assert read().startswith(f"\x1b[{len(lines)}F\x1b[J8 trials")
    table.tell_end(under_way[0])
    told = read()
    while not told.endswith("\n"):
        told += read()
    assert told.endswith(f"\x1b[Jinterrupted {under_way[0].name}: others\n")


def test_a_name_is_shortened_where_it_says_least():
    name = "learning_rate=0.0246,num_channels=16,momentum=0.9,seed=1"
    assert fitted(name, 56) == name
    assert fitted(name, 55) == "lr=0.0246,nc=16,momentum=0.9,seed=1"
    assert fitted("text=" + "x" * 60 + ",seed=12", 40) == "text=" + "x" * 13 + ".." + "x" * 12 + ",seed=12"
    for width in range(24, 60):
        assert len(fitted(name, width)) <= width
        assert fitted(name, width).endswith(",seed=1")
