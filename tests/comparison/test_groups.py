"""Which experiments repeat one another."""

import json
from pathlib import Path

import pytest

from engine.comparison.groups import (
    choose_entries,
    differing,
    direction,
    group_entries,
)
from engine.errors import UserError
from engine.experiment.entries import read_entries
from tests.support.made_runs import make_run, make_seeds, write


def grouped(parent):
    return [[entry.name for entry in group.entries] for group in group_entries(read_entries(parent))]


# Groups


def test_experiments_that_differ_only_in_seed_are_a_group(tmp_path):
    make_seeds(tmp_path, "rate=0.1", [0.5, 0.6, 0.7], params={"learning_rate": 0.1})
    make_seeds(tmp_path, "rate=0.2", [0.5], params={"learning_rate": 0.2})
    groups = group_entries(read_entries(tmp_path))
    assert [group.name for group in groups] == ["rate=0.1,seed=*", "rate=0.2,seed=1"]
    assert "seed" not in groups[0].params
    assert groups[0].params["learning_rate"] == 0.1
    assert groups[1].params["seed"] == 1


def test_and_those_that_differ_only_in_fold(tmp_path):
    for fold in range(3):
        make_run(tmp_path / f"{fold}", params={"fold": fold, "device": f"cuda:{fold}", "num_workers": fold})
    make_run(tmp_path / "wide", params={"fold": 0, "width": 9})
    assert grouped(tmp_path) == [["0", "1", "2"], ["wide"]]


def test_the_same_seed_twice_is_no_repetition(tmp_path):
    for name in ("a/1", "a/2", "b/1", "b/2"):
        make_run(tmp_path / name, params={"seed": int(name[-1])})
    assert grouped(tmp_path) == [["a/1", "a/2"], ["b/1", "b/2"]]


def test_a_hyperparameter_that_is_off_is_as_good_as_absent(tmp_path):
    make_run(tmp_path / "1", params={"seed": 1, "width": None})
    make_run(tmp_path / "2", params={"seed": 2})
    assert grouped(tmp_path) == [["1", "2"]]


@pytest.mark.parametrize("part", ["code", "data"])
def test_other_code_or_data_is_another_experiment(tmp_path, part):
    make_run(tmp_path / "a", params={"seed": 1}, **{part: {"x": "old"}})
    make_run(tmp_path / "b", params={"seed": 2}, **{part: {"x": "new"}})
    make_run(tmp_path / "c", params={"seed": 3}, **{part: {"x": "old"}})
    assert grouped(tmp_path) == [["a", "c"], ["b"]]


def test_what_waits_joins_those_that_ran(tmp_path):
    folder = make_run(tmp_path / "b", params={"seed": 1, "betas": [0.9, 0.99]})
    params = json.loads((folder / "params.json").read_text())
    write(tmp_path / "a", "params.json", {**params, "seed": 2})
    write(tmp_path / "c", "params.json", {**params, "seed": 3, "betas": [0.8, 0.99]})
    assert grouped(tmp_path) == [["a", "b"], ["c"]]


@pytest.mark.parametrize(
    ("members", "name"),
    [
        (["s/seed=1", "s/seed=11"], "s/seed=*"),
        (["base", "base_1"], "base*"),
        (["lr=0.01", "lr=0.01,seed=1"], "lr=0.01*"),
        (["seed=1,lr=0.1", "seed=2,lr=0.1"], "seed=*,lr=0.1"),
        (["1", "2"], "*"),
        (["base", "s/seed=1", "s/seed=2"], "s/seed=* and 1 more"),
    ],
)
def test_the_name_of_a_group_is_a_pattern(tmp_path, members, name):
    for seed, member in enumerate(members):
        make_run(tmp_path / member, params={"seed": seed})
    assert [group.name for group in group_entries(read_entries(tmp_path))] == [name]


def test_only_the_finished_ones_count_where_there_are_any(tmp_path):
    make_run(tmp_path / "1", params={"seed": 1})
    make_run(tmp_path / "2", params={"seed": 2}, state="failed")
    (group,) = group_entries(read_entries(tmp_path))
    assert [entry.name for entry in group.counted] == ["1"]
    make_run(tmp_path / "1", params={"seed": 1}, state="pruned")
    (group,) = group_entries(read_entries(tmp_path))
    assert len(group.counted) == 2


def test_a_group_is_chosen_by_its_name(tmp_path, monkeypatch):
    make_seeds(tmp_path / "search", "rate=0.1", [0.5, 0.6])
    make_seeds(tmp_path / "search", "rate=0.2", [0.5, 0.6], params={"learning_rate": 0.2})
    make_run(tmp_path / "alone", [0.5], params={"seed": 99})
    monkeypatch.chdir(tmp_path)
    chosen = choose_entries(Path("search/rate=0.1,seed=*"))
    assert [entry.name for entry in chosen] == ["rate=0.1,seed=1", "rate=0.1,seed=2"]
    assert len(choose_entries(Path("search"))) == 4
    assert len(choose_entries(Path("search/rate=0.1,seed=* and 1 more"))) == 3  # a name of the folder above
    with pytest.raises(UserError, match=r'did you mean "search/rate=0.1,seed=\*"\?'):
        choose_entries(Path("search/rate=0.1,sed=*"))


@pytest.mark.parametrize(
    "members", [["base", "a/b/c/seed=1", "a/b/c/seed=2"], ["s/1/deep/run", "s/2/deep/run"]], ids=str
)
def test_a_group_in_folders_far_apart_is_chosen_by_its_name_too(tmp_path, members):
    for seed, member in enumerate(members):
        make_run(tmp_path / member, params={"seed": seed})
    (group,) = group_entries(read_entries(tmp_path))
    assert len(choose_entries(tmp_path / group.name)) == len(members)


def test_rows_of_one_name_are_chosen_together(tmp_path):
    make_seeds(tmp_path, "a", [0.5, 0.6])
    make_seeds(tmp_path, "a", [0.7, 0.8], first=3, code={"net.py": "2"})
    assert [group.name for group in group_entries(read_entries(tmp_path))] == ["a,seed=*", "a,seed=*"]
    assert len(choose_entries(tmp_path / "a,seed=*")) == 4


def test_keys_that_differ():
    assert differing([{"a": 1, "b": 2, "c": None}, {"a": 1, "b": 3}]) == ["b"]
    assert differing([{"a": 1}, {"a": 1, "d": [0]}]) == ["d"]
    assert differing([]) == []


# Directions


@pytest.mark.parametrize(
    ("metric", "mode"),
    [
        ("accuracy", "max"),
        ("token_accuracy", "max"),
        ("F1", "max"),
        ("mIoU", "max"),
        ("loss", "min"),
        ("error_rate", "min"),
        ("RMSE", "min"),
        ("perplexity", "min"),
        ("temperature", None),
        ("glossy", None),
        ("accuracy_loss", None),
    ],
)
def test_whether_a_metric_is_better_high_is_known_by_its_name_or_not_at_all(metric, mode):
    assert direction(metric, []) == mode


def test_what_a_run_watches_it_knows(tmp_path):
    make_run(tmp_path / "a", monitor="temperature", mode="min")
    make_run(tmp_path / "b", monitor="loss", mode="max")
    entries = read_entries(tmp_path)
    assert [direction(name, entries) for name in ("temperature", "loss", "accuracy")] == ["min", "max", "max"]
    make_run(tmp_path / "c", monitor="temperature", mode="max")
    assert direction("temperature", read_entries(tmp_path)) is None
