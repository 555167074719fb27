"""A group is tested in one command: a line for each member, and then mean and spread."""

import json
import statistics

import pytest

from tests.support.folders import contents, read


@pytest.fixture
def seeds(trained, tmp_path):
    """Makes trained experiments that differ in seed, and one in width that never ran."""

    def make(count=3):
        folders = [trained(tmp_path / "group" / f"rate=0.01,seed={seed}") for seed in range(count)]
        for seed, folder in enumerate(folders):
            for name in ("params.json", "run.json"):
                content = read(folder, name)
                values = content.get("params", content)
                values["seed"] = seed
                (folder / name).write_text(json.dumps(content))
        (tmp_path / "group" / "waiting").mkdir()
        (tmp_path / "group" / "waiting" / "params.json").write_text('{"num_hidden": 3}')
        return folders

    return make


@pytest.mark.parametrize("name", ["group", "group/rate=0.01,seed=*"])
def test_each_member_is_tested_and_then_their_mean_is_told(seeds, script, tmp_path, name):
    folders = seeds()
    done = script("evaluate", "--parent_dir", tmp_path / name)
    assert done.status == 0, done.stderr
    lines = done.stdout.splitlines()
    for seed, folder in enumerate(folders):
        scores = read(folder, "metrics_test_best.json")
        assert lines[seed].startswith(f"rate=0.01,seed={seed}: accuracy {scores['accuracy']:.4g}, loss")
        assert read(folder, "run.json")["evaluations"][0]["split"] == "test"
        assert "Evaluating" in (folder / "evaluate.log").read_text()
        assert (folder / "predictions_test.csv").is_file()
    accuracies = [read(folder, "metrics_test_best.json")["accuracy"] for folder in folders]
    mean = f"{statistics.mean(accuracies):.4g} ± {statistics.stdev(accuracies):.2g}"
    assert f"rate=0.01,seed=*, mean ± standard deviation of 3: accuracy {mean}, loss" in done.stdout
    assert ("waiting: left out: not run" in lines) == (name == "group")
    assert lines[-1].endswith(f"synthesize_results.py --parent_dir {tmp_path / 'group'}")
    assert "Evaluating" not in done.stdout


def test_the_table_shows_what_was_found(seeds, script, tmp_path):
    seeds()
    script("evaluate", "--parent_dir", tmp_path / "group")
    script("synthesize_results", "--parent_dir", tmp_path / "group")
    table = (tmp_path / "group" / "results.md").read_text()
    assert "test accuracy" in table
    assert table.count("±") >= 4


def test_a_bad_member_does_not_end_the_rest(seeds, script, tmp_path):
    first, second, third = seeds()
    (first / "best.pth.tar").write_bytes(b"torn")
    (second / "params.json").write_text('{"task": "tests.projects.nowhere"}')
    done = script("evaluate", "--parent_dir", tmp_path / "group")
    assert done.status == 2
    assert "rate=0.01,seed=0: not evaluated: " in done.stderr
    assert "rate=0.01,seed=1: not evaluated: " in done.stderr
    assert "error: 2 of 3 could not be evaluated: rate=0.01,seed=0, rate=0.01,seed=1\n" in done.stderr
    assert "rate=0.01,seed=2: accuracy" in done.stdout
    assert (third / "metrics_test_best.json").is_file()
    assert "mean" not in done.stdout


def test_our_own_fault_is_told_in_full_and_the_rest_goes_on(variant, points, script, tmp_path):
    place = variant(
        "faulty", net="def accuracy(outputs, labels):\n    return 1 // 0\n\nmetrics = {'accuracy': accuracy}"
    )
    points("group/b")
    assert script("train", "--model_dir", tmp_path / "group" / "b").status == 0
    points("group/a", task="faulty")
    (tmp_path / "group" / "a" / "best.pth.tar").write_bytes((tmp_path / "group" / "b" / "best.pth.tar").read_bytes())
    (tmp_path / "group" / "a" / "status.json").write_text('{"state": "finished"}')
    done = script("evaluate", "--parent_dir", tmp_path / "group", path=place)
    assert done.status == 2
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert "b: accuracy" in done.stdout


def test_what_is_not_finished_is_left_out(seeds, script, tmp_path):
    first, *_ = seeds(2)
    (first / "status.json").write_text('{"state": "pruned"}')
    done = script("evaluate", "--parent_dir", tmp_path / "group")
    assert done.status == 0
    assert "rate=0.01,seed=0: left out: pruned" in done.stdout
    assert not (first / "metrics_test_best.json").exists()


def test_a_group_in_which_nothing_is_finished_is_one_line(seeds, script, tmp_path):
    for folder in seeds(2):
        (folder / "status.json").write_text('{"state": "interrupted"}')
    done = script("evaluate", "--parent_dir", tmp_path / "group")
    assert (done.status, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "no experiment is finished here" in done.stderr


def test_what_to_type_next_can_be_typed(seeds, script, tmp_path):
    seeds(1)
    (tmp_path / "group").rename(tmp_path / "my group")
    done = script("evaluate", "--parent_dir", tmp_path / "my group")
    assert done.stdout.endswith(f"--parent_dir '{tmp_path / 'my group'}'\n")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("group/rate=0.01,sed=*", 'rate=0.01,seed=*"?'),
        ("empty", "no experiment has been run here"),
        ("waiting", "no experiment has been run here"),
    ],
)
def test_a_group_that_is_none_is_one_line(seeds, script, tmp_path, name, said):
    seeds(2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "waiting").mkdir()
    (tmp_path / "waiting" / "params.json").write_text("{}")
    before = contents(tmp_path / "group")
    done = script("evaluate", "--parent_dir", tmp_path / name)
    assert (done.status, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr
    assert contents(tmp_path / "group") == before


def test_one_experiment_or_a_group_but_not_both(script, tmp_path):
    done = script("evaluate", "--parent_dir", tmp_path, "--model_dir", tmp_path)
    assert done.status == 2
    assert "not allowed with" in done.stderr
