"""`train.py --replay`: the code of then, put together from a record, gives the same bits; or what differs is said."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from engine.experiment import Experiment
from engine.training.replaying import _checkpoint_differences, _score_differences
from tests.support.folders import read, same_results
from tests.support.made_runs import make_run
from tests.support.scripts import ROOT

pytestmark = [
    pytest.mark.processes,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
]

LAYERS = "from torch import nn\n\ndef hidden(width):\n    return nn.Linear(2, width)\n"
NET = "from mine.layers import hidden\n"
CLOCK = "        import time, torch\n        torch.manual_seed(time.time_ns())\n"


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def train(project, *words, status=0):
    done = subprocess.run(
        [sys.executable, "train.py", *map(str, words)],
        cwd=project,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def begin(project, name, **params):
    folder = project / "experiments" / name
    folder.mkdir(parents=True)
    common = {"task": "mine", "data_dir": "none", "learning_rate": 0.01, "num_epochs": 3, "_note": "ours"}
    (folder / "params.json").write_text(json.dumps(common | params))
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A repository of somebody's own project, in a folder of it, with a run from code that was never committed."""
    repository = tmp_path_factory.mktemp("repository")
    project = repository / "project"
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(ROOT / "engine", project / "engine", ignore=ignored)
    shutil.copytree(ROOT / "tests" / "projects" / "points", project / "mine", ignore=ignored)
    for name in ("train.py", "evaluate.py", "utils.py", ".gitignore"):
        shutil.copy(ROOT / name, project)
    git(repository, "init", "-q")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "first")
    net = project / "mine" / "net.py"
    net.write_text(NET + net.read_text().replace("nn.Linear(2, width)", "hidden(width)"))
    (project / "mine" / "layers.py").write_text(LAYERS)
    train(project, "--model_dir", begin(project, "base"))
    return project


@pytest.fixture(scope="module")
def moved_on(project):
    """The same project some days later: all was thrown away, and there is another commit."""
    git(project, "checkout", "-q", "--", ".")
    (project / "mine" / "layers.py").unlink()
    (project / "mine" / "net.py").write_text("raise SystemExit('another network')\n")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "second")
    return project


def worktrees(project):
    return len(git(project, "worktree", "list").splitlines())


def test_a_run_comes_out_the_same_whatever_became_of_its_code(moved_on):
    before = git(moved_on, "status", "--porcelain", "-uno"), worktrees(moved_on)
    done = train(moved_on, "--replay", "experiments/base")
    assert "experiments/base_replay is experiments/base to the bit: the scores of 3 epochs" in done.stdout
    base, new = moved_on / "experiments" / "base", moved_on / "experiments" / "base_replay"
    assert same_results(base, new)
    assert read(new, "params.json").items() <= read(base, "params.json").items()
    assert read(new, "run.json")["git"] == read(base, "run.json")["git"]  # of which another replay could be made
    assert "Nothing has read" not in done.stdout
    assert "test it        python evaluate.py --model_dir experiments/base_replay" in done.stdout
    assert read(new, "run.json")["command"] == "train.py --model_dir experiments/base_replay"
    assert (git(moved_on, "status", "--porcelain", "-uno"), worktrees(moved_on)) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_replay_that_is_stopped_saves_leaves_nothing_behind_and_goes_on(moved_on):
    new = moved_on / "experiments" / "stopped"
    words = [sys.executable, "train.py", "--replay", "experiments/base", "--model_dir", str(new)]
    process = subprocess.Popen(words, cwd=moved_on, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (new / "train.log").is_file():
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    stopped = process.wait()
    assert stopped == 128 + signal.SIGTERM
    assert read(new, "status.json")["state"] in ("interrupted", "finished")  # and not killed
    assert worktrees(moved_on) == 1
    train(moved_on, "--replay", "experiments/base", "--model_dir", new)
    assert same_results(moved_on / "experiments" / "base", new)


def test_what_cannot_be_the_same_is_told_with_its_cause(moved_on):
    points = ROOT / "tests" / "projects" / "points" / "net.py"
    (moved_on / "mine" / "net.py").write_text(points.read_text().replace("        super()", f"{CLOCK}        super()"))
    folder = begin(moved_on, "clock", num_epochs=2)
    train(moved_on, "--model_dir", folder)
    record = read(folder, "run.json")
    record["versions"]["numpy"] = "1.0"
    (folder / "run.json").write_text(json.dumps(record))
    done = train(moved_on, "--replay", folder, status=1)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Other than it was: numpy 1.0 -> ")  # before it begins
    assert lines[-1].startswith("Other than it was: numpy 1.0 -> ")
    assert any(line.startswith("  scores: 2 of 2 epochs differ, the first is epoch 1: ") for line in lines)
    assert any(line.startswith("  last.pth.tar: weights: 4 of 4 differ, by at most ") for line in lines)
    assert worktrees(moved_on) == 1


def spoil(name, change):
    """Makes an experiment whose record says another thing."""

    def make(project):
        folder = project / "experiments" / name
        shutil.copytree(project / "experiments" / "base", folder)
        record = read(folder, "run.json")
        change(record)
        (folder / "run.json").write_text(json.dumps(record))
        return folder

    return make


REFUSED = {
    "outside of a git repository": lambda record: record.update(git={"commit": None}),
    "its commit 0123456789ab is not in this repository; fetch it first": lambda record: record["git"].update(
        commit="0123456789abcdef" * 2 + "01234567"
    ),
    "its commit HEAD": lambda record: record["git"].update(commit="HEAD"),
    "went on with other code than it began with (mine/net.py)": lambda record: record.update(
        continued=[{"code": {**record["code"], "mine/net.py": "another"}}]
    ),
    "its record does not hold all of its code: mine/layers.py": lambda record: record["git"].update(untracked={}),
    "the patch in its record does not apply": lambda record: record["git"].update(patch="nonsense"),
    "was trained by own.py, which git did not keep": lambda record: record.update(command="own.py --model_dir x"),
}


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_where_the_record_does_not_suffice_it_is_one_line(number, moved_on):
    said, change = list(REFUSED.items())[number]
    folder = spoil(f"spoilt{number}", change)(moved_on)
    done = train(moved_on, "--replay", folder, status=2)
    assert done.stderr.count("\n") == 1
    assert said.replace("its commit HEAD", "its record names no commit") in done.stderr
    assert worktrees(moved_on) == 1
    assert not (moved_on / "experiments" / f"spoilt{number}_replay" / "run.json").exists()


def test_only_what_is_finished_can_be_trained_again(moved_on):
    make_run(moved_on / "experiments" / "half", state="interrupted")
    for name in ("half", "nosuch"):
        done = train(moved_on, "--replay", f"experiments/{name}", status=2)
        assert done.stderr == f"error: experiments/{name}: no finished run is here that could be trained again\n"


def test_a_folder_with_other_params_is_left_as_it_is(moved_on):
    other = begin(moved_on, "other", learning_rate=0.5)
    done = train(moved_on, "--replay", "experiments/base", "--model_dir", other, status=2)
    assert "is there already, with other values" in done.stderr


def test_it_goes_with_nothing_that_the_record_says(moved_on):
    for words in (["--fresh"], ["--check"], ["--set", "a=1"], ["--from", "x"], ["--restore_file", "best"]):
        assert "--replay takes all from the record" in train(moved_on, "--replay", "x", *words, status=2).stderr


# What is compared


@pytest.fixture
def pair(trained, tmp_path):
    """Two folders of the same run."""
    return Experiment(trained(tmp_path / "one")), Experiment(trained(tmp_path / "other"))


def found(pair):
    return [*_score_differences(*pair), *_checkpoint_differences(*pair)]


def change_checkpoint(experiment, name, change):
    path = experiment.file(f"{name}.pth.tar")
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def test_times_are_not_compared(pair):
    rows = [row | {"seconds": 1e6, "examples_per_second": 1.0} for row in pair[1].history()]
    pair[1].file("metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    change_checkpoint(pair[1], "last", lambda content: content.update(seconds=1e6, training_seconds=1.0))
    assert found(pair) == []


def next_number(content):
    weight = content["state_dict"]["0.weight"]
    weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(9.0))


CHANGES = {
    "weights: 1 of 4 differ, by at most ": next_number,
    "weights: 1 of 4 differ (0.bias)": lambda content: content["state_dict"].update({"0.bias": torch.zeros(2)}),
    "optimizer: 1 of ": lambda content: content["optim_dict"]["state"][0]["exp_avg"].mul_(2),
    "learned: 1 of ": lambda content: content["learned"].update(more=1),
    "epoch: 1 of 1 differ": lambda content: content.update(epoch=1),
}


@pytest.mark.parametrize("name", ["best", "last"])
@pytest.mark.parametrize("said", CHANGES)
def test_the_smallest_difference_in_a_checkpoint_is_told(name, said, pair):
    change_checkpoint(pair[1], name, CHANGES[said])
    [line] = found(pair)
    assert line.startswith(f"{name}.pth.tar: {said}")


def test_what_is_no_number_in_both_is_the_same(pair):
    for one in pair:
        change_checkpoint(one, "last", lambda content: content["state_dict"]["0.bias"].fill_(float("nan")))
    assert found(pair) == []


def test_the_first_epoch_that_differs_is_told(pair):
    rows = pair[1].history()
    rows[1]["val_loss"] += 1e-9
    pair[1].file("metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    [line] = found(pair)
    assert line.startswith("scores: 1 of 2 epochs differ, the first is epoch 2: val_loss ")
    pair[1].file("metrics.jsonl").write_text(json.dumps(rows[0]) + "\n")
    assert found(pair) == ["scores: 2 epochs -> 1"]


def test_checkpoints_that_were_not_kept_are_not_compared(pair):
    pair[0].file("best.pth.tar").unlink()
    change_checkpoint(pair[1], "best", next_number)
    assert found(pair) == []
    pair[1].file("last.pth.tar").unlink()
    assert found(pair) == [f"{pair[1].file('last.pth.tar')}: no such checkpoint"]
