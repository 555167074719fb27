"""Law 1: a run that was stopped, however, and run again ends with the bits of one that never was."""

import functools
import json
import os
import signal
import sys
import time

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support import faults, scripts
from tests.support.folders import checkpoint, contents, history, read, same, same_results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by signals"),
]

NOISY = {
    "task": "tests.projects.noisy",
    "data_dir": "none",
    "batch_size": 32,
    "num_epochs": 3,
    "learning_rate": 0.01,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
    "ema_decay": 0.9,
    "grad_clip": 1.0,
    "accumulate": 2,
    "save_steps": 2,
    "save_summary_steps": 3,
}
LOADERS = {
    "resident": {"loader": "resident"},
    "no worker": {"loader": "workers"},
    "two workers": {"loader": "workers", "num_workers": 2},
    "two workers that stay": {"loader": "persistent", "num_workers": 2},
    "stream": {"loader": "stream", "max_train_batches": 7},
    "part of a pass": {"loader": "resident", "steps_per_epoch": 2},
    "float16": {"loader": "resident", "precision": "float16"},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Runs that nothing disturbs, one for each set of params: `whole({...})` -> folder."""
    made = {}

    def run(params):
        key = repr(params)
        if key not in made:
            made[key] = train_in(tmp_path_factory.mktemp("whole"), params)
        return made[key]

    return run


def make_folder(folder, params):

    folder.mkdir(exist_ok=True)
    (folder / "params.json").write_text(json.dumps(params))
    return folder


def train_in(folder, params, status=0, before=None):
    done = scripts.run("train", "--model_dir", make_folder(folder, params), before=before, output=folder.parent)
    assert done.status == status, done.stderr
    return folder


def points_of(folder):
    """Every point of TensorBoard's curves, as TensorBoard itself reads them."""
    board = EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    return {tag: [(point.step, point.value) for point in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


def assert_same(folder, undisturbed):
    assert same_results(folder, undisturbed)
    assert points_of(folder) == points_of(undisturbed)
    for name in ("metrics_val_best_weights.json", "metrics_val_last_weights.json", "data.json"):
        assert read(folder, name) == read(undisturbed, name)
    more = set(contents(folder)) - set(contents(undisturbed))
    assert all("events" in name for name in more)


@pytest.mark.parametrize("loader", LOADERS)
def test_killed_in_a_batch_and_again_and_run_to_its_end(tmp_path, whole, loader):
    params = NOISY | LOADERS[loader]
    folder = tmp_path / "killed"
    for batch in (7, 2, 4):  # and twice more in what is left
        train_in(folder, params, -signal.SIGKILL, functools.partial(faults.act_at_batch, batch, faults.die))
    train_in(folder, params)
    assert_same(folder, whole(params))


def test_workers_do_not_change_a_bit(whole):
    one, two, stay = (whole(NOISY | LOADERS[name]) for name in ("no worker", "two workers", "two workers that stay"))
    for other in (two, stay):
        assert same(checkpoint(one)["state_dict"], checkpoint(other)["state_dict"])
        assert history(one) == history(other)


@pytest.mark.parametrize("batch", [1, 3])
def test_killed_in_validation(tmp_path, whole, batch):
    params = NOISY | LOADERS["resident"]
    folder = tmp_path / "killed"
    die = functools.partial(faults.act_at_batch, batch, faults.die, training=False)
    train_in(folder, params, -signal.SIGKILL, die)
    train_in(folder, params)
    assert_same(folder, whole(params))


SHORT = NOISY | LOADERS["resident"] | {"num_epochs": 2, "save_steps": 3}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, 15))
def test_killed_where_a_file_takes_its_place(tmp_path, whole, number, after):
    folder = tmp_path / "killed"
    train_in(folder, SHORT, -signal.SIGKILL, functools.partial(faults.kill_at_replace, number, after))
    train_in(folder, SHORT)
    assert_same(folder, whole(SHORT))


@pytest.mark.parametrize("number", range(1, 9, 2))
def test_killed_while_a_checkpoint_is_written(tmp_path, whole, number):
    folder = tmp_path / "killed"
    train_in(folder, SHORT, -signal.SIGKILL, functools.partial(faults.kill_at_sync, number))
    train_in(folder, SHORT)
    assert_same(folder, whole(SHORT))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
@pytest.mark.parametrize("training", [True, False], ids=["in training", "in validation"])
def test_a_signal_ends_a_run_in_peace(tmp_path, whole, name, training):
    params = NOISY | LOADERS["resident"] | {"save_steps": None}
    number = getattr(signal, name)
    folder = tmp_path / "stopped"
    stop = functools.partial(faults.signal_self, number)
    train_in(folder, params, 128 + number, functools.partial(faults.act_at_batch, 3, stop, training))
    status = read(folder, "status.json")
    assert (status["state"], status["reason"]) == ("interrupted", name)
    assert status["step"] == (2 if training else 8)  # the step under way was finished, and saved
    assert checkpoint(folder)["step"] == status["step"]
    said = f"Stopped by {name} at step {status['step']}; the same command goes on from there"
    assert said in (folder / "train.log").read_text()
    train_in(folder, params)
    assert_same(folder, whole(params))
    assert read(folder, "status.json")["state"] == "finished"


@pytest.mark.parametrize(
    ("slow_in_training", "stopped_in_training"),
    [(True, True), (True, False), (False, False)],
    ids=["training, stopped there", "training, stopped in validation", "validation, stopped there"],
)
def test_the_time_before_an_interruption_counts(tmp_path, slow_in_training, stopped_in_training):
    folder = tmp_path / "stopped"
    slow = functools.partial(faults.act_at_batch, 1, functools.partial(time.sleep, 1.0), slow_in_training)
    stop = functools.partial(faults.signal_self, signal.SIGTERM)
    stopping = functools.partial(faults.act_at_batch, 2, stop, stopped_in_training)
    params = SHORT | {"num_epochs": 1}
    train_in(folder, params, 128 + signal.SIGTERM, functools.partial(faults.both, slow, stopping))
    train_in(folder, params)
    (row,) = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    assert row["seconds"] >= 1.0
    assert row["examples_per_second"] > 0
    assert (row["examples_per_second"] <= 200) or not slow_in_training  # as many examples as an epoch has


def test_a_signal_before_the_first_step_stops_at_once_and_leaves_nothing(tmp_path):
    folder = tmp_path / "stopped"
    train_in(folder, SHORT, 128 + signal.SIGINT, interrupt_loading)
    assert set(contents(folder)) == {"params.json"}


def interrupt_loading():
    from tests.projects.noisy import data_loader

    def never(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    data_loader.points = never


def test_the_old_template_resumes_too(tmp_path, whole, squares):
    params = {"task": "tests.projects.old_vision", "data_dir": str(squares), "batch_size": 8, "num_workers": 2}
    params |= {"num_epochs": 2, "save_steps": 2, "num_channels": 4, "dropout_rate": 0.5}
    params |= {"learning_rate": 0.001}
    folder = train_in(make_folder(tmp_path / "stopped", params), params | {"num_workers": 0})
    assert same(checkpoint(folder)["state_dict"], checkpoint(whole(params))["state_dict"])


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
def test_a_damaged_last_checkpoint_is_set_aside_and_the_one_before_used(tmp_path, whole, damage):
    folder = tmp_path / "damaged"
    die = functools.partial(faults.act_at_batch, 13, faults.die)
    train_in(folder, SHORT, -signal.SIGKILL, die)
    path = folder / "last.pth.tar"
    content = bytearray(path.read_bytes())
    content[content.index(checkpoint(folder)["state_dict"]["0.weight"].numpy().tobytes())] ^= 1
    path.write_bytes({"flipped": content, "truncated": content[: len(content) // 2], "empty": b""}[damage])
    done = scripts.run("train", "--model_dir", folder, output=tmp_path)
    assert done.status == 0
    assert "last.pth.tar: " in done.stdout
    assert "set aside" in done.stdout
    assert (folder / "last.pth.tar.damaged").exists()
    (folder / "last.pth.tar.damaged").unlink()
    assert_same(folder, whole(SHORT))


def test_a_finished_run_keeps_no_checkpoint_but_best_and_last(whole):
    assert sorted(path.name for path in whole(SHORT).glob("*.tar*")) == ["best.pth.tar", "last.pth.tar"]


def test_what_is_saved_needs_no_trust(whole):
    for name in ("best", "last"):
        content = torch.load(whole(SHORT) / f"{name}.pth.tar", weights_only=True)
        assert content["epoch"] in (1, 2)
