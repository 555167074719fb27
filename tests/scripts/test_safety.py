"""Nothing is lost and nothing gets in: one run per folder, full disks, hostile files, changed data and code."""

import csv
import functools
import json
import os
import pickle
import signal
import sys
import time

import pytest
import torch

from engine.files import write_json
from tests.support import faults, scripts
from tests.support.folders import contents, history, read, same_results

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals and limits that Windows does not have")


@pytest.fixture
def train(tmp_path):
    """Trains and expects a status: `train(folder, status=2)`; returns what was printed."""

    def run(folder, *words, status=0, **options):
        done = scripts.run("train", "--model_dir", folder, *words, output=tmp_path, **options)
        assert done.status == status, done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def stopped(points, train):
    """Makes an experiment that was killed in its third epoch of four."""

    def make(name="stopped", **options):
        params = {key: options.pop(key) for key in ("task", "data_dir", "deterministic") if key in options}
        folder = points(name, num_epochs=4, **params)
        kill = functools.partial(faults.act_at_batch, 16, faults.die)
        train(folder, status=-signal.SIGKILL, before=kill, **options)
        return folder

    return make


def wait_until(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to pass within 30 s")


FORKING = """
import os, pathlib, signal, time
left = pathlib.Path({left!r})
class Net(Net):
    def __init__(self, params):
        super().__init__(params)
        if not left.exists():
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            left.write_text(str(child))
            os.kill(os.getpid(), signal.SIGKILL)
"""


class TestOneRunPerFolder:
    def test_a_second_process_is_told_who_holds_it(self, points, train, tmp_path):
        folder = points()
        (tmp_path / "first").mkdir()
        wait = functools.partial(faults.act_at_batch, 10, functools.partial(faults.wait, tmp_path / "waits"))
        first = scripts.start("train", "--model_dir", folder, before=wait, output=tmp_path / "first")
        try:
            wait_until((tmp_path / "waits").exists)
            before = contents(folder)
            said = train(folder, status=2)
            assert f"is being trained by process {first.pid} on " in said
            assert contents(folder) == before
        finally:
            first.kill()
            first.join()
        train(folder)  # the lock died with its process

    def test_what_a_killed_run_has_forked_does_not_hold_it(self, points, train, variant, tmp_path):
        left = tmp_path / "left"
        path = variant("forking", net=FORKING.format(left=str(left)))
        folder = points(task="forking")
        train(folder, path=path, status=-signal.SIGKILL)
        child = int(left.read_text())
        os.kill(child, 0)  # it is still there
        try:
            train(folder, path=path)
        finally:
            os.kill(child, signal.SIGKILL)

    def test_a_process_on_another_computer_that_was_heard_of_lately_holds_it(self, stopped, train):
        folder = stopped()
        status = read(folder, "status.json") | {"state": "running", "host": "elsewhere", "pid": 7}
        write_json(folder / "status.json", status | {"updated": time.time()})
        assert "is being trained by process 7 on elsewhere" in train(folder, status=2)
        write_json(folder / "status.json", status | {"updated": time.time() - 3600})
        train(folder)

    def test_the_table_shows_what_is_really_running(self, stopped, script, tmp_path):
        folder = stopped()
        (tmp_path / "first").mkdir()

        def shown():
            script("synthesize_results", "--parent_dir", folder)
            with (folder / "results.csv").open(newline="") as file:
                (row,) = csv.DictReader(file)
            return row["state"]

        assert read(folder, "status.json")["state"] == "running"
        assert shown() == "interrupted"
        wait = functools.partial(faults.act_at_batch, 3, functools.partial(faults.wait, tmp_path / "waits"))
        process = scripts.start("train", "--model_dir", folder, before=wait, output=tmp_path / "first")
        try:
            wait_until((tmp_path / "waits").exists)
            assert shown() == "running"
        finally:
            process.kill()
            process.join()
        status = read(folder, "status.json") | {"host": "elsewhere", "updated": time.time() - 3600}
        write_json(folder / "status.json", status)
        assert shown() == "lost"


class TestRunningAgain:
    def test_changed_data_is_refused_with_what_changed_and_what_to_type(self, stopped, train, tmp_path):
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "a.txt").write_text("one")
        folder = stopped(data_dir=str(tmp_path / "data"))
        (tmp_path / "data" / "a.txt").write_text("two")  # as long as before
        before = contents(folder)
        said = train(folder, status=2)
        assert f"data in {tmp_path / 'data'}: changed a.txt. Either start over" in said
        assert "--fresh" in said
        assert "--from" in said
        assert contents(folder) == before
        (tmp_path / "data" / "a.txt").write_text("one")
        (tmp_path / "data" / "b.txt").write_text("added")
        assert "1 file added since this run began: b.txt" in train(folder)

    def test_changed_code_is_said_and_recorded_and_goes_on(self, stopped, train, variant, monkeypatch):
        path = variant("mine", net="x = 1")
        monkeypatch.chdir(path)
        folder = stopped(task="mine", path=path, cwd=path)
        net = path / "mine" / "net.py"
        net.write_text(net.read_text() + "  # a comment means nothing")
        assert "Changed since" not in train(folder, status=-9, path=path, cwd=path, before=kill_at_sixth_batch)
        net.write_text(net.read_text() + "\ny = 2")
        assert "Changed since this run began: mine/net.py" in train(folder, path=path, cwd=path)
        first, second, third = [read(folder, "run.json"), *read(folder, "run.json")["continued"]]
        assert first["code"] == second["code"] != third["code"]

    def test_other_versions_are_said(self, stopped, train):
        folder = stopped()
        record = read(folder, "run.json")
        write_json(folder / "run.json", record | {"versions": record["versions"] | {"torch": "2.9.0"}})
        assert "its last bits may differ" in train(folder)

    def test_a_folder_that_failed_before_its_first_step_is_as_it_was(self, points, train, tmp_path):
        base = points("base")
        new = tmp_path / "new"
        said = train(new, "--from", base, "--set", "weight_decya=0.1", status=2)
        assert 'did you mean "weight_decay"' in said
        assert not new.exists()
        train(new, "--from", base, "--set", "weight_decay=0.1")


def kill_at_sixth_batch():
    faults.act_at_batch(6, faults.die)


class TestFullDisk:
    @pytest.mark.parametrize("size", [400, 700, 1100, 1500, 2000, 3000, 4000, 6000])
    def test_a_full_disk_is_one_line_and_loses_nothing(self, stopped, points, train, size):
        folder = stopped()
        before = contents(folder)
        said = scripts.run(
            "train", "--model_dir", folder, before=functools.partial(faults.limit_file_size, size), output=folder.parent
        )
        if said.status != 0:  # the larger limits are enough for some of the files, and the largest for all
            assert said.status == 1, said.stderr
            assert said.stderr.count("\n") == 1, said.stderr
            assert "cannot be written" in said.stderr
            for name in ("best.pth.tar", "last.pth.tar"):
                assert torch.load(folder / name, weights_only=True)["epoch"] >= 1
            assert before["params.json"] == (folder / "params.json").read_bytes()
        train(folder)
        undisturbed = points("undisturbed", num_epochs=4)
        train(undisturbed)
        assert same_results(folder, undisturbed)
        assert len(history(folder)) == 4


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("it_ran",)


class TestHostileFiles:
    @pytest.mark.parametrize("name", ["last", "best"])
    def test_a_pickle_in_place_of_a_checkpoint_runs_nothing(self, stopped, train, name, tmp_path):
        folder = stopped()
        for kind in ("zip", "plain"):
            if kind == "zip":
                torch.save({"state_dict": Bomb(), "epoch": 1}, folder / f"{name}.pth.tar")
            else:
                (folder / f"{name}.pth.tar").write_bytes(pickle.dumps({"state_dict": Bomb()}))
            done = scripts.run("evaluate", "--model_dir", folder, "--restore_file", name, output=tmp_path, cwd=tmp_path)
            assert done.status == 2
            assert "not a checkpoint that can be read" in done.stderr
        train(folder, cwd=tmp_path)
        assert not (tmp_path / "it_ran").exists()

    @pytest.mark.parametrize("task", ["../model", "/etc", "os; import x", "a..b", ""])
    def test_a_task_is_the_name_of_a_package_and_nothing_else(self, points, train, task):
        assert "error: " in train(points(task=task), status=2)

    @pytest.mark.parametrize(
        "content", ["[" * 10_000, '{"a":' * 10_000, '{"seed": NaN}', '{"seed": 1e400}', '{"a":1,"a":2}']
    )
    def test_hostile_params_are_one_line(self, points, train, content):
        folder = points()
        (folder / "params.json").write_text(content)
        said = train(folder, status=2)
        assert said.count("\n") == 1
        assert str(folder / "params.json") in said


def test_deterministic_runs_are_the_same_and_resume_the_same(stopped, points, train):
    folder = stopped(deterministic=True)
    train(folder)
    whole = points("whole", num_epochs=4, deterministic=True)
    train(whole)
    assert same_results(folder, whole)


def test_an_operation_that_cannot_be_deterministic_is_named(points, train, variant):
    net = """
import torch
def loss_fn(outputs, labels):
    if torch.are_deterministic_algorithms_enabled():
        raise RuntimeError("cumsum_cuda_kernel does not have a deterministic implementation, but you set it")
    return nn.functional.cross_entropy(outputs, labels)
"""
    folder = points(task="undetermined", deterministic=True)
    said = train(folder, path=variant("undetermined", net=net), status=2)
    assert "cumsum_cuda_kernel" in said
    assert '"deterministic"' in said


def test_the_lines_of_a_log_torn_in_writing_are_mended(stopped, train):
    folder = stopped()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "train_lo')
    train(folder)
    assert [row["epoch"] for row in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())] == [
        1,
        2,
        3,
        4,
    ]


@pytest.mark.parametrize("how", ["deleted", "renamed"])
def test_a_folder_that_goes_away_under_a_run_ends_it_and_is_not_made_anew(points, train, variant, tmp_path, how):
    net = f"""
import shutil
from pathlib import Path

folder, calls = Path("{(tmp_path / "experiment").as_posix()}"), []

def accuracy(outputs, labels, plain=accuracy):
    calls.append(1)
    if len(calls) == 12 and not Path("{(tmp_path / "moved").as_posix()}").exists():  # in the second epoch
        shutil.rmtree(folder) if {how == "deleted"} else folder.rename("{(tmp_path / "moved").as_posix()}")
    return plain(outputs, labels)

metrics = {{"accuracy": accuracy}}
"""
    path = variant("leaving", net=net)
    folder = points("experiment", task="leaving", num_epochs=4, save_summary_steps=1)
    said = train(folder, path=path, status=2)
    assert f"{folder}: is gone" in said
    assert "Traceback" not in said
    assert not folder.exists()
    if how == "renamed":
        train(tmp_path / "moved", path=path)
        (tmp_path / "moved").rename(folder)
        whole = points("whole", task="leaving", num_epochs=4, save_summary_steps=1)
        (tmp_path / "moved").mkdir()
        train(whole, path=path)
        assert same_results(folder, whole)


@pytest.mark.parametrize("kind", ["none", "empty"])
@pytest.mark.parametrize("error", ["ValueError('num_samples=0')", "ZeroDivisionError()", "StopIteration()"])
def test_data_that_are_not_there_are_named_whatever_the_loader_makes_of_it(
    points, train, variant, tmp_path, kind, error
):
    code = f"def fetch_dataloader(types, data_dir, params):\n    raise {error}"
    path = variant("missing", data_loader=code)
    (tmp_path / "empty").mkdir()
    said = train(points(task="missing", data_dir=str(tmp_path / kind)), path=path, status=2)
    assert f"{tmp_path / kind}: {'an empty' if kind == 'empty' else 'no such'} data folder" in said
    assert f"--data_dir; the task says: {error.partition('(')[0]}" in said


def test_a_split_that_is_drawn_otherwise_is_not_gone_on_with_nor_scored(points, train, variant, tmp_path):
    loader = f"""
from pathlib import Path
import torch
from torch.utils.data import DataLoader, TensorDataset, random_split

def fetch_dataloader(types, data_dir, params):
    inputs, labels = points("train")
    everything = TensorDataset(torch.from_numpy(inputs), torch.from_numpy(labels))
    drawn = torch.Generator().seed() if Path("{(tmp_path / "anew").as_posix()}").exists() else 0
    own = {{"generator": torch.Generator().manual_seed(drawn)}} if drawn else {{}}
    parts = random_split(everything, [120, 40, 40], **own)
    return {{split: DataLoader(part, 20) for split, part in zip(("train", "val", "test"), parts) if split in types}}
"""
    path = variant("drawn", data_loader=loader)
    kill = functools.partial(faults.act_at_batch, 10, faults.die)
    folder = points(task="drawn", num_epochs=3)
    train(folder, path=path, before=kill, status=-signal.SIGKILL)
    (tmp_path / "anew").touch()
    assert "train and val: other examples than when this run began" in train(folder, path=path, status=2)
    (tmp_path / "anew").unlink()
    train(folder, path=path)  # drawn from the global generators, which are seeded
    words = ("--model_dir", folder, "--split", "val")
    assert scripts.run("evaluate", *words, path=path, output=tmp_path).status == 0
    assert read(folder, "metrics_val_best.json") == read(folder, "metrics_val_best_weights.json")
    (tmp_path / "anew").touch()
    done = scripts.run("evaluate", *words, path=path, output=tmp_path)
    assert (done.status, "val: other examples" in done.stderr) == (2, True)
