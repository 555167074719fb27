"""The search and the table, as they are typed."""

import json
import subprocess
import sys

import pytest

from tests.folders import contents, read
from tests.scripts import ROOT

BASE = {"task": "tests.projects.points", "data_dir": "none", "num_epochs": 1}


@pytest.fixture
def search(tmp_path):
    """Runs the search over a space: `search({"learning_rate": [0.1]})`; returns how it ended."""

    def run(space, base=BASE):
        (tmp_path / "params.json").write_text(json.dumps(base))
        (tmp_path / "search.json").write_text(json.dumps({"space": space}))
        command = [sys.executable, "search_hyperparams.py", "--parent_dir", str(tmp_path)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    return run


def table(script, folder):
    done = script("synthesize_results", "--parent_dir", folder)
    assert done.status == 0, done.stderr
    return (folder / "results.md").read_text()


@pytest.mark.slow
def test_each_choice_is_an_experiment_and_a_crash_costs_its_own_trial_alone(search, script, tmp_path):
    done = search({"task": ["tests.projects.nowhere", "tests.projects.points"], "learning_rate": [0.01]})
    assert done.returncode == 0
    assert "failed: task=tests.projects.nowhere,learning_rate=0.01" in done.stderr
    trial = tmp_path / "task=tests.projects.points,learning_rate=0.01"
    assert read(trial, "params.json") == BASE | {"task": "tests.projects.points", "learning_rate": 0.01}
    assert read(trial, "status.json")["state"] == "finished"
    before = contents(trial)
    search({"task": ["tests.projects.points"], "learning_rate": [0.01]})
    assert contents(trial) == before  # it is not run twice
    assert "task=tests.projects.points,learning_rate=0.01" in table(script, tmp_path)


def test_every_trial_is_checked_before_the_first_one_starts(search, tmp_path):
    done = search({"batch_size": [8, 0]})
    assert done.returncode == 2
    assert '"batch_size" must be at least 1' in done.stderr
    assert not list(tmp_path.glob("batch_size*"))


def test_a_space_that_is_none_is_refused(search):
    done = search({"learning_rate": 0.1})
    assert done.returncode == 2
    assert '"space" must name hyperparameters with a list of values each' in done.stderr


def test_the_table_has_what_differs_and_a_remark_where_a_file_is_damaged(trained, script, tmp_path):
    first, second = trained(tmp_path / "some" / "first"), trained(tmp_path / "some" / "deep" / "second")
    trained(tmp_path / "some" / ".old" / "third")
    (first / "run.json").write_text((first / "run.json").read_text().replace('"seed": 230', '"seed": 7'))
    lines = table(script, tmp_path / "some").splitlines()
    header = [name.strip() for name in lines[0].strip("|").split("|")]
    assert header == ["experiment", "seed", "val accuracy", "val loss", "state"]
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["deep/second", "first"]
    (second / "run.json").write_text("{")
    assert "unreadable" in table(script, tmp_path / "some")


def test_a_folder_without_experiments_is_one_line(script, tmp_path):
    done = script("synthesize_results", "--parent_dir", tmp_path)
    assert done.status == 2
    assert "no experiment has been run here" in done.stderr
