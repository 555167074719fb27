"""Signals to end: to a process or to its whole group, once or twice, from a terminal, a cluster, a lost connection."""

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.errors import UserError
from engine.experiment import Stopped, StopRequest
from engine.experiment.stopping import SAME_WISH_SECONDS
from tests.support import faults, scripts
from tests.support.folders import contents, read, same_results

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups"),
]

NAMES = ["SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"]
LONGER = SAME_WISH_SECONDS + 0.1
SLOW = """
import torch, time
from torch.utils.data import DataLoader, Dataset
from tests.projects.points.data_loader import points

class Slow(Dataset):
    def __init__(self, split, seconds):
        self.inputs, self.labels = points(split)
        self.seconds = seconds

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        time.sleep(self.seconds)
        return self.inputs[index] + 0.1 * torch.randn(2).numpy(), self.labels[index]

def fetch_dataloader(types, data_dir, params):
    return {split: DataLoader(Slow(split, params.seconds), 20, num_workers=params.num_workers) for split in types}
"""


def wait_until(condition):
    for _ in range(2400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to pass within two minutes")


# What a signal means


def steps_with(*wishes, seconds=0.0):
    """Signals itself between steps; ends with 0 if the run would have gone on."""
    with StopRequest() as request:
        request.between_steps()
        for number in wishes:
            os.kill(os.getpid(), number)
            time.sleep(seconds)
        request.check()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("times", [1, 2, 5])
def test_the_same_wish_said_again_is_the_same_wish(name, times):
    number = getattr(signal, name)
    assert scripts.call(functools.partial(steps_with, *[number] * times)) == 128 + number


def test_it_is_the_first_that_counts():
    assert scripts.call(steps_with, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT) == 128 + signal.SIGUSR1


def never_checks(number):
    with StopRequest() as request:
        request.between_steps()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(LONGER)
        os.kill(os.getpid(), number)
        time.sleep(0.1)
        sys.exit(7)


def test_ctrl_c_some_time_later_ends_at_once_and_what_a_cluster_adds_does_not():
    assert scripts.call(never_checks, signal.SIGINT) == 128 + signal.SIGINT
    assert scripts.call(never_checks, signal.SIGTERM) == 7


def ignores(number):
    signal.signal(number, signal.SIG_IGN)
    with StopRequest() as request:
        os.kill(os.getpid(), number)
        request.between_steps()
        os.kill(os.getpid(), number)
        request.check()


@pytest.mark.parametrize("name", NAMES)
def test_what_was_ignored_at_the_start_stays_ignored(name):
    assert scripts.call(ignores, getattr(signal, name)) == 0


def caught_by_the_task():
    with StopRequest() as request:
        request.between_steps()
        with request.at_once(), contextlib.suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)
        sys.exit(7)


def test_a_task_that_catches_everything_is_stopped_all_the_same():
    assert scripts.call(caught_by_the_task) == 128 + signal.SIGTERM


def ends_and_hears_it_again(seconds):
    try:
        with StopRequest():
            os.kill(os.getpid(), signal.SIGTERM)
    except Stopped:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGTERM)
    sys.exit(7)


def test_the_same_wish_is_heard_while_the_process_ends_and_no_longer():
    assert scripts.call(ends_and_hears_it_again, 0) == 7
    assert scripts.call(ends_and_hears_it_again, LONGER) == -signal.SIGTERM  # a notebook goes on as it was


def has_a_child():
    with StopRequest() as request:
        request.between_steps()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, b"!")
            time.sleep(60)
            os._exit(0)
        os.read(reader, 1)  # it is there
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        request.check()
        sys.exit(os.WTERMSIG(status))


def test_a_process_that_the_task_forks_can_be_ended_as_any_other():
    assert scripts.call(has_a_child) == signal.SIGTERM


# Whole groups


@pytest.fixture
def in_a_group(tmp_path):
    """Starts a script as the head of a group of its own: `in_a_group("train", "--model_dir", folder)`."""
    started = []

    def start(script, *words, before=faults.nothing, **options):
        output = tmp_path / f"output{len(started)}"
        output.mkdir()
        before = functools.partial(faults.both, os.setsid, before)
        started.append(scripts.start(script, *words, before=before, output=output, **options))
        return started[-1], output

    yield start
    for process in started:
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)
            process.join()


def signal_group(process, number):
    """What a cluster does: signal the process, and the group that it is in."""
    os.kill(process.pid, number)
    os.killpg(process.pid, number)


def ended_quietly(process, output, number):
    process.join(120)
    said = (output / "stderr").read_text()
    return (process.exitcode, "Traceback" in said) == (128 + number, False) or pytest.fail(f"{process.exitcode} {said}")


def children_of(process):
    """The processes that a process has started, such as the workers of its loaders."""
    return [int(word) for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False], ids=["in training", "in validation"])
@pytest.mark.parametrize("name", NAMES)
def test_a_run_with_slow_data_stops_in_peace(points, variant, in_a_group, undisturbed, tmp_path, name, training):
    number, sign = getattr(signal, name), tmp_path / "sign"
    path = variant("slow", data_loader=SLOW)
    folder = points(task="slow", num_workers=2, seconds=0.01)
    before = functools.partial(faults.act_at_batch, 2, sign.touch, training)
    process, output = in_a_group("train", "--model_dir", folder, path=path, before=before)
    wait_until(sign.exists)
    for worker in children_of(process) if sys.platform == "linux" else []:
        os.kill(worker, number)  # a cluster finds those, too, that have left the group
    signal_group(process, number)
    assert ended_quietly(process, output, number)
    status = read(folder, "status.json")
    assert (status["state"], status["reason"]) == ("interrupted", name)
    assert status["step"] >= (2 if training else 10)
    done = scripts.run("train", "--model_dir", folder, path=path, output=tmp_path)
    assert done.status == 0, done.stderr
    assert same_results(folder, undisturbed)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The same run without a signal, and without waiting for data."""
    folder = tmp_path_factory.mktemp("undisturbed")
    package = folder / "tasks" / "slow"
    package.mkdir(parents=True)
    (package / "net.py").write_text("from tests.projects.points.net import *")
    (package / "data_loader.py").write_text(SLOW)
    params = {
        "task": "slow",
        "data_dir": "none",
        "learning_rate": 0.01,
        "num_epochs": 2,
        "seconds": 0,
        "num_workers": 0,
    }
    (folder / "params.json").write_text(json.dumps(params))
    done = scripts.run("train", "--model_dir", folder, path=folder / "tasks", output=folder)
    assert done.status == 0, done.stderr
    return folder


IN_A_TERMINAL = """
import sys
from pathlib import Path
root, tasks, folder, sign, training = sys.argv[1:]
sys.path[:0] = [tasks, root]
sys.argv = ["train.py", "--model_dir", folder]
from tests.support import faults
faults.act_at_batch(2, Path(sign).touch, training == "True")
import train
from engine.errors import run
run(train.main)
"""


@pytest.mark.parametrize("training", [True, False], ids=["in training", "in validation"])
def test_a_run_whose_terminal_is_gone_is_saved_and_goes_on(points, variant, undisturbed, tmp_path, training):
    path, sign = variant("slow", data_loader=SLOW), tmp_path / "sign"
    folder = points(task="slow", num_workers=0, seconds=0.01)
    import pty  # not on Windows

    process, terminal = pty.fork()  # the head of a session that has this terminal, as a login has its connection
    if process == 0:
        words = [scripts.ROOT, path, folder, sign, training]
        os.execv(sys.executable, [sys.executable, "-c", IN_A_TERMINAL, *map(str, words)])
    wait_until(sign.exists)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 128 + signal.SIGHUP
    status = read(folder, "status.json")
    assert (status["state"], status["reason"]) == ("interrupted", "SIGHUP")
    assert status["step"] >= (2 if training else 10)
    done = scripts.run("train", "--model_dir", folder, path=path, output=tmp_path)
    assert done.status == 0, done.stderr
    assert same_results(folder, undisturbed)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends them at once")
def test_workers_end_with_the_run_however_it_ends(points, variant, in_a_group, tmp_path):
    sign = tmp_path / "sign"
    loading = SLOW.replace("time.sleep(self.seconds)", "time.sleep(60 if index >= 60 else 0)")
    loading = loading.replace("params.num_workers", "params.num_workers, persistent_workers=True")
    path = variant("slow", data_loader=loading)
    folder = points(task="slow", num_workers=2, seconds=0)
    touch = functools.partial(faults.act_at_batch, 2, sign.touch)
    process, _ = in_a_group("train", "--model_dir", folder, path=path, before=touch)
    wait_until(sign.exists)
    workers = children_of(process)
    assert len(workers) >= 2
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    wait_until(lambda: not any(is_running(worker) for worker in workers))
    sign.unlink()
    stop = functools.partial(faults.both, sign.touch, fail)
    process, output = in_a_group(  # not kept out of the folder by anybody
        "train", "--model_dir", folder, path=path, before=functools.partial(faults.act_at_batch, 2, stop)
    )
    wait_until(sign.exists)
    process.join(50)
    assert process.exitcode == 2, (output / "stderr").read_text()
    assert (output / "stderr").read_text() == "error: no more\n"


def fail():
    raise UserError("no more")


def is_running(number):
    """Whether a process is there, and not only its exit status."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("name", NAMES)
def test_an_evaluation_ends_where_it_is(trained, in_a_group, tmp_path, name):
    number, sign = getattr(signal, name), tmp_path / "sign"
    folder = trained(tmp_path / "experiment")
    before = contents(folder)
    wait = functools.partial(faults.act_at_batch, 1, functools.partial(faults.wait, sign), training=False)
    process, output = in_a_group("evaluate", "--model_dir", folder, before=wait)
    wait_until(sign.exists)
    signal_group(process, number)
    assert ended_quietly(process, output, number)
    assert {name: content for name, content in contents(folder).items() if name != "evaluate.log"} == before


def test_the_decoding_of_images_ends_where_it_is(in_a_group, experiment, squares, tmp_path):
    shutil.copytree(squares, tmp_path / "images")
    folder, sign = experiment(data_dir=str(tmp_path / "images")), tmp_path / "sign"
    before = functools.partial(decode_slowly, sign)
    process, output = in_a_group("train", "--model_dir", folder, before=before)
    wait_until(sign.exists)
    signal_group(process, signal.SIGTERM)
    assert ended_quietly(process, output, signal.SIGTERM)
    assert set(contents(folder)) == {"params.json"}
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".npy", ".tmp")]


def decode_slowly(sign):
    from PIL import Image

    def opened(*arguments, **options):
        sign.touch()
        time.sleep(0.05)
        return open_image(*arguments, **options)

    open_image = Image.open
    Image.open = opened


def test_in_the_background_of_a_script_the_tests_hear_ctrl_c():
    """Such a shell starts `command &` with Ctrl-C ignored, which every child inherits."""
    child = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    test = f"import subprocess, sys, tests.conftest; subprocess.run([sys.executable, '-c', {child!r}])"
    script = 'nohup "$1" -c "$2" & wait $!'
    done = subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, test], cwd=scripts.ROOT, capture_output=True, text=True
    )
    assert done.stdout == "True\n", done.stderr
