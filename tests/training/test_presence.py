"""Of several processes one is slow, or hangs: who waits says for whom, and does not wait for what is stopped."""

import functools
import os
import platform
import re
import signal
import sys
import time

import pytest

from tests.support import faults, together
from tests.support.folders import checkpoint, read, same_results
from tests.support.waiting import wait_for

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="stops and wakes processes"),
]

HOST = platform.node()


@pytest.fixture
def ragged(experiment):
    """Makes an experiment of 21 steps on the ragged points, which saves after each second one."""

    def make(name="experiment", /, **params):
        common = {"task": "tests.projects.ragged", "data_dir": "none", "batch_size": 8, "num_epochs": 3}
        return experiment(name, **common | {"optimizer": "SGD", "learning_rate": 0.02, "save_steps": 2} | params)

    return make


def at_batch(number, action):
    return functools.partial(
        faults.both, faults.lose_processes_soon, functools.partial(faults.act_at_batch, number, action)
    )


def says(path, words, times=1):
    return path.exists() and path.read_text().count(words) >= times


def read_slowly(log):
    """What takes longer than any sign of life may."""
    wait_for(lambda: says(log, "Waiting for rank", times=3))


def test_a_slow_process_is_waited_for_and_the_first_says_where_it_is(ragged, tmp_path):
    folder, undisturbed = ragged(), ragged("undisturbed")
    slow = functools.partial(read_slowly, folder / "train.log")
    both = {0: faults.lose_processes_soon, 1: at_batch(9, slow)}
    ends = together.fork("train", "--model_dir", folder, output=tmp_path, faults=both)
    assert [end.status for end in ends] == [0, 0], ends
    lines = [line for line in (folder / "train.log").read_text().splitlines() if "Waiting for" in line]
    assert len(lines) == 3  # after 1 s, 3 s and 9 s
    assert f"WARNING Waiting for rank 1 of 2 on {HOST}, for 1." in lines[0]
    assert "now: it is in wait_for, tests/support/waiting.py:" in lines[0]
    assert lines[0].rpartition(" WARNING ")[2] in ends[0].stdout
    together.fork("train", "--model_dir", undisturbed, output=tmp_path)
    assert same_results(folder, undisturbed)


def lose_patience_soon():
    import engine.training.presence as presence

    presence.BEAT_SECONDS, presence.PATIENCE_SECONDS = 0.2, 2.0


def test_patience_has_an_end(ragged, tmp_path):
    """As with a loader that waits for itself."""
    folder = ragged()
    stuck = at_batch(9, functools.partial(wait_for, functools.partial(says, folder / "status.json", "failed")))
    both = {0: lose_patience_soon, 1: functools.partial(faults.both, stuck, lose_patience_soon)}
    ends = together.fork("train", "--model_dir", folder, output=tmp_path, faults=both)
    assert [end.status for end in ends] == [1, 1], ends
    told = rf"rank 1 of 2 on {HOST} is in wait_for, .*, for too long: the others have waited [\d.]+ s; the same command"
    assert re.match(told, read(folder, "status.json")["reason"])


def read_long(rank):
    """Be alone on a machine, which for the second process is a slow one, and lose patience soon."""
    from engine.data import TensorBatches

    os.environ |= {"LOCAL_RANK": "0", "GROUP_RANK": str(rank)}
    lose_patience_soon()
    if rank == 1:
        make = TensorBatches.__init__
        TensorBatches.__init__ = lambda *args, **options: (time.sleep(3), make(*args, **options))[1]


def test_a_machine_that_reads_the_data_longer_than_another_is_waited_for(ragged, tmp_path):
    both = {rank: functools.partial(read_long, rank) for rank in (0, 1)}
    ends = together.fork("train", "--model_dir", ragged(), output=tmp_path, faults=both)
    assert [end.status for end in ends] == [0, 0], ends


def no_sign(rank):
    return rf"rank {rank} of 2 on {HOST} has given no sign of life for [\d.]+ s, and was in .*; it is stopped, or "


def test_a_process_that_is_stopped_as_a_whole_ends_the_run_with_that_reason(ragged, tmp_path):
    folder = ragged()
    failed = functools.partial(says, folder / "status.json", "failed")
    stops = {0: faults.lose_processes_soon, 1: at_batch(9, functools.partial(faults.stop_until, failed))}
    ends = together.fork("train", "--model_dir", folder, output=tmp_path, faults=stops)
    assert [end.status for end in ends] == [1, 1]
    status = read(folder, "status.json")
    assert re.match(no_sign(1), status["reason"])
    assert status["reason"].endswith("the same command goes on from the last checkpoint")
    assert f"error: {status['reason']}\n" == ends[0].stderr
    assert ends[1].stderr == ""  # once it wakes up it hears of it
    assert (status["state"], checkpoint(folder)["step"]) == ("failed", 8)
    assert "Waiting for rank 1" in (folder / "train.log").read_text()
    assert [end.status for end in together.fork("train", "--model_dir", folder, output=tmp_path)] == [0, 0]
    assert checkpoint(folder)["step"] == 21


def test_if_it_is_the_first_another_speaks(ragged, tmp_path):
    folder = ragged()
    told = functools.partial(says, tmp_path / "process_1" / "stderr", "error: ")
    stops = {0: at_batch(9, functools.partial(faults.stop_until, told)), 1: faults.lose_processes_soon}
    ends = together.fork("train", "--model_dir", folder, output=tmp_path, faults=stops)
    assert [end.status for end in ends] == [1, 1]
    waiting, *_, error = ends[1].stderr.splitlines()
    assert waiting.startswith(f"Waiting for rank 0 of 2 on {HOST}, for 1.")
    assert re.match(f"error: {no_sign(0)}", error)
    assert ends[0].stderr == ""
    assert f"error: {read(folder, 'status.json')['reason']}" == error


def test_the_same_under_torchrun(ragged, tmp_path, variant):
    """Which ends the one that is stopped, once another has failed."""
    folder = ragged(task="mine")
    failed = f"lambda: '\"failed\"' in (Path({str(folder)!r}) / 'status.json').read_text()"
    net = f"""
import os
from pathlib import Path

from tests.projects.ragged.net import *
from tests.support import faults

faults.lose_processes_soon()
if os.environ["RANK"] == "1":
    faults.act_at_batch(9, lambda: faults.stop_until({failed}))
"""
    path = variant("mine", net, "from tests.projects.ragged.data_loader import *")
    done = together.torchrun("train.py", "--model_dir", folder, output=tmp_path / "output", path=path)
    assert done.status == 1
    assert len(re.findall(f"error: {no_sign(1)}", done.stderr)) == 1
    assert read(folder, "status.json")["state"] == "failed"
    assert "no sign of life" in read(folder, "status.json")["reason"]


def test_a_run_that_was_stopped_with_all_its_processes_goes_on(ragged, tmp_path):
    """As a scheduler suspends a job, or a laptop sleeps: no time has passed for any."""
    folder, pids = ragged(), tmp_path / "pids"
    noted = functools.partial(note_pid, pids)
    both = {0: functools.partial(faults.both, faults.lose_processes_soon, noted)}
    both[1] = functools.partial(faults.both, noted, at_batch(9, functools.partial(suspend_all, pids)))
    ends = together.fork("train", "--model_dir", folder, output=tmp_path, faults=both)
    assert [end.status for end in ends] == [0, 0], ends
    assert pids.with_suffix(".woken").exists()


def note_pid(pids):
    with pids.open("a") as file:
        file.write(f"{os.getpid()}\n")


def suspend_all(pids):
    """Stop all processes of the run for longer than one may give no sign of life."""
    if os.fork() == 0:
        for number, seconds in ((signal.SIGSTOP, 8), (signal.SIGCONT, 0)):
            for pid in pids.read_text().split():
                os.kill(int(pid), number)
            time.sleep(seconds)
        pids.with_suffix(".woken").touch()
        os._exit(0)
