"""What training shows in a terminal."""

import contextlib
import fcntl
import functools
import json
import os
import pty
import re
import struct
import sys
import termios

import pytest

UNHURRIED = """
import time

calls = []

def loss_fn(outputs, labels):  # so slow at some batches, the last one of a pass among them, that a bar is drawn
    calls.append(1)
    time.sleep(0.12 if len(labels) == 4 or len(calls) % 10 == 0 else 0)
    return nn.functional.cross_entropy(outputs, labels)
"""
IN_A_LIST = """
def fetch_dataloader(types, data_dir, params, fetch=fetch_dataloader):
    return {split: list(batches) for split, batches in fetch(types, data_dir, params).items()}
"""


def in_terminal(file, columns):
    """Go on in a pseudo-terminal of so many columns; what is written to it goes into a file."""
    child, ours = pty.fork()
    if child == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        return
    with open(file, "wb", buffering=0) as written, contextlib.suppress(OSError):  # it is gone when the child is
        while data := os.read(ours, 100_000):
            written.write(data)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


@pytest.mark.parametrize("loader", ["resident", "of batches that nobody can count"])
@pytest.mark.parametrize("columns", [80, 50])
def test_bars_count_all_examples_and_fit_into_the_terminal(points, variant, script, tmp_path, columns, loader):
    """200 examples to train on in batches of 7, 60 to validate on."""
    path = variant("unhurried", net=UNHURRIED, data_loader="" if loader == "resident" else IN_A_LIST)
    folder = points(task="unhurried", batch_size=7)
    written = tmp_path / "written"
    done = script("train", "--model_dir", folder, path=path, before=functools.partial(in_terminal, written, columns))
    assert done.status == 0, written.read_text()
    shown = re.split(r"[\r\n]+", re.sub(r"\x1b\[\w", "", written.read_text()))
    bars = [line for line in shown if "|" in line]
    assert max(map(len, bars)) <= columns
    titles = {line.partition(" |")[0] for line in bars}
    assert titles == {"epoch 1/2", "epoch 2/2", "val"}
    counts = {tuple(map(int, pair)) for pair in re.findall(r"(\d+)/(\d+)(?=,)", "\n".join(bars))}
    assert (200, 200) in counts
    assert all(done <= total for done, total in counts)
    if loader == "resident":
        assert {total for _, total in counts} == {200, 60}
        assert (60, 60) in counts
    assert any(re.search(r"\| \d+/\d+, run 00:0\d<00:0\d, loss 0?.\d+", line) for line in bars)
    assert columns < 80 or any(", lr 0.01, " in line for line in bars)
    assert any(re.match(r"- 00:0\d elapsed, about 00:0\d left, learning rate 0.01$", line) for line in shown)
    (row, *_) = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    assert "peak_memory" not in row  # of a CPU
