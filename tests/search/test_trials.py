"""Which trials a search has: a configuration is known by its values in effect, and no folder serves two."""

import itertools
import json

import pytest

from engine.errors import UserError
from engine.search.description import read_search
from engine.search.sampling import random_draws
from engine.search.trials import Trials
from tests.support.made_runs import make_run

BASE = {"task": "declaring", "data_dir": "none", "num_epochs": 2, "learning_rate": 0.01}
OPTIONS = """
from engine.hyperparameters import Key
OPTIONS = (Key("dropout", float, 0.0, "share", low=0, high=1), Key("width", int, 8, "units"), Key("rate", int, 1, ""))
"""


@pytest.fixture
def describe(tmp_path, task_package, monkeypatch):
    """Writes what a search is: `describe({"learning_rate": [0.1]}, seeds=[1], base={...})`; returns its folder."""
    monkeypatch.syspath_prepend(task_package("declaring", net=OPTIONS, data_loader=""))
    parent = tmp_path / "search"
    parent.mkdir()

    def write(space, base=None, **settings):
        (parent / "params.json").write_text(json.dumps(BASE | (base or {})))
        (parent / "search.json").write_text(json.dumps({"space": space, **settings}))
        return parent

    return write


def planned(parent):
    """All trials of a grid."""
    search = read_search(parent)
    trials = Trials(parent, search)
    for number, values in enumerate(search.grid()):
        trials.add(number, values)
    return trials


def trained(parent):
    """The same, and each has been trained."""
    for number, trial in enumerate(trials := planned(parent)):
        make_run(trial.experiment.folder, [0.5 + number / 100])
        trial.experiment.file("params.json").write_text(json.dumps(trial.params))
    return trials


def names(trials):
    return sorted(trial.name for trial in trials)


RATES = {"learning_rate": [0.01, 1]}
SAME = [
    ({"grad_clip": None}, RATES),
    ({"weight_decay": None, "momentum": None}, RATES),
    ({"batch_size": 32}, RATES),
    ({"batch_size": 32.0, "num_epochs": 2.0, "warmup_epochs": 0, "deterministic": False}, RATES),
    ({"dropout": 0}, RATES),
    ({"dropout": 0.0, "width": 8.0}, RATES),
    ({"undeclared": None}, RATES),
    ({"_note": "why"}, RATES),
    ({"num_workers": 2, "device": "cpu", "save_steps": 5, "threads": 2}, RATES),
    ({"learning_rate": 0.5}, RATES),
    ({}, {"learning_rate": [1.0, 1e-2]}),
    ({}, {"learning_rate": [0.01, 1], "_off": [1, 2, 3]}),
    ({}, {"learning_rate": [0.01, 1], "dropout": [0]}),
    ({"dropout": 0.5}, {"learning_rate": [0.01, 1], "dropout": [0.0]}),
    ({}, {"learning_rate": [0.01, 1], "grad_clip": [None]}),
]


@pytest.mark.parametrize(("base", "space"), SAME, ids=[json.dumps(one) for one in SAME])
@pytest.mark.parametrize("seeds", [[], [1, 2]], ids=["one seed", "seeds"])
def test_an_edit_that_changes_nothing_adds_no_trial(describe, base, space, seeds):
    before = trained(describe(RATES, seeds=seeds))
    after = planned(describe(space, base=base, seeds=seeds))
    assert names(after) == names(before)
    assert all(one.is_wanted for one in after.configurations)
    assert [after.score(one) for one in after.configurations] == [before.score(one) for one in before.configurations]
    assert after.remaining == 0


CHANGED = [
    ({"num_epochs": 3}, "num_epochs 2 -> 3"),
    ({"grad_clip": 0.5}, "grad_clip None -> 0.5"),
    ({"width": 9}, "width 8 -> 9"),
    ({"rate": 2}, "rate 1 -> 2"),
    ({"undeclared": 0}, "undeclared None -> 0"),
    ({"data_dir": "elsewhere"}, "data_dir none -> elsewhere"),
]


@pytest.mark.parametrize(("base", "said"), CHANGED, ids=[said for _, said in CHANGED])
@pytest.mark.parametrize(
    "space",
    [
        {"learning_rate": [0.01, 0.1]},  # a name that the name of another key ends with
        {"learning_rate": [0.01], "text": ["x" * 200]},  # a folder's name that is cut off
        {"learning_rate": [0.01], "text": ["width=9,num_epochs=3"]},
    ],
    ids=["rates", "a long name", "a name that says too much"],
)
def test_another_base_is_refused_whatever_the_folders_are_called(describe, base, said, space):
    trained(describe(space))
    for later in (space, {"momentum": [0.9]}):  # also where none of the old ones is asked for any more
        with pytest.raises(UserError, match=f"was made from another params.json: {said}"):
            planned(describe(later, base=base))


def test_what_an_earlier_space_varied_is_no_other_base(describe):
    trained(describe({"width": [4, 16], "learning_rate": [0.1]}))
    later = planned(describe({"momentum": [0.5, 0.9]}))
    assert [one.is_wanted for one in later.configurations] == [False, False, True, True]


def test_what_it_had_varied_may_be_what_the_base_says_now(describe):
    trained(describe({"width": [4, 8]}))
    later = planned(describe({"learning_rate": [0.01]}))  # 8 is the default of width, and 0.01 was in the base
    assert names(later) == ["width=4", "width=8"]
    assert [one.is_wanted for one in later.configurations] == [False, True]


def test_further_seeds_are_called_as_the_first_one_is(describe):
    trained(describe({"learning_rate": [0.01], "width": [4]}, seeds=[1]))
    later = planned(describe({"width": [4.0]}, seeds=[1, 2]))
    assert names(later) == ["learning_rate=0.01,width=4,seed=1", "learning_rate=0.01,width=4,seed=2"]


@pytest.mark.parametrize("other", [{"monitor": "loss"}, {"mode": "min"}], ids=["another score", "another way"])
def test_trials_that_watch_different_scores_are_not_ranked(describe, other):
    trials = trained(parent := describe({"learning_rate": [0.01, 0.1]}))
    assert trials.watched == ("accuracy", "max")
    trial = parent / "learning_rate=0.1"
    (trial / "run.json").write_text(json.dumps(json.loads((trial / "run.json").read_text()) | other))
    for asked in ("ranking", "evidence"):
        with pytest.raises(UserError, match=r"trials watch different scores.*: learning_rate=0.01: accuracy \(max\); "):
            getattr(planned(parent), asked)()
    (trial / "status.json").write_text('{"state": "failed"}')
    assert [one.name for _, one in planned(parent).ranking()] == ["learning_rate=0.01"]


ODD = [1, True, None, "1", "a", "A", "a,right=b", "b", "1,right=1", [1], "ä", "a/b"]


@pytest.mark.parametrize("seeds", [[], [1, 2]], ids=["one seed", "seeds"])
def test_every_choice_of_odd_values_has_a_folder_of_its_own(describe, seeds):
    space = {"left": ODD, "right": ODD}
    first = trained(describe(space, seeds=seeds))
    assert len({name.casefold() for name in names(first)}) == len(ODD) ** 2 * max(1, len(seeds))
    for trial in first:
        there = json.loads(trial.experiment.file("params.json").read_text())
        assert (there["left"], there["right"]) == (trial.params["left"], trial.params["right"])
    again = planned(describe({"right": ODD[::-1], "left": ODD[::-1]}, seeds=seeds))
    assert names(again) == names(first)
    for configuration in again.configurations:
        assert len({trial.name.split(",seed=")[0] for trial in configuration.trials}) == 1


@pytest.mark.parametrize(
    ("values", "is_one"),
    [
        ([8, 8.0], True),
        ([0.0, 0, -0.0], True),
        ([[0.9, 1], [0.9, 1.0]], True),
        ([{"a": 1, "b": 2}, {"b": 2.0, "a": 1}], True),
        ([True, 1], False),
        ([0, False], False),
        (["1", 1], False),
        ([None, "null"], False),
    ],
    ids=str,
)
def test_a_value_is_the_same_however_it_is_written(describe, values, is_one):
    if is_one:
        with pytest.raises(UserError, match="has the same value twice"):
            read_search(describe({"undeclared": values}))
        for value in values:
            assert read_search(describe({"undeclared": values[:1]})).space["undeclared"].holds(value)
    else:
        assert read_search(describe({"undeclared": values})).size == len(values)


@pytest.mark.parametrize(("name", "value"), [("weight_decay", True), ("width", "many"), ("width", 1.5), ("dropout", 2)])
def test_a_value_that_cannot_be_is_told_of_the_file_it_stands_in(describe, name, value):
    for space in ({name: [value]}, {name: {"min": value, "max": 10**6}, "learning_rate": [0.1]}):
        if isinstance(value, float | int) or isinstance(space[name], list):
            with pytest.raises(UserError, match=f'search.json: "{name}"'):
                read_search(describe(space))
    with pytest.raises(UserError, match=f'params.json: "{name}" must be'):
        read_search(describe({}, base={name: value}))


def test_an_option_of_the_task_is_known_and_a_slip_of_one_is_not(describe):
    assert read_search(describe({"dropout": [0.1, 0.5], "unheard_of": [1]})).size == 2
    with pytest.raises(UserError, match='"droput" is in no params; did you mean "dropout"'):
        read_search(describe({"droput": [0.1]}))


# Spaces without end, and at their end


def test_a_huge_grid_is_asked_for_no_more_than_is_wanted(describe):
    far = {"min": 0, "max": 10**12, "step": 1}
    search = read_search(describe({"one": far, "other": far, "last": [1, 2]}, num_trials=2))
    rows = [tuple(values.values()) for values in itertools.islice(search.grid(), 5)]
    assert rows == [(0, 0, 1), (0, 0, 2), (0, 1, 1), (0, 1, 2), (0, 2, 1)]
    search = read_search(describe({"one": far, "other": far}, num_trials=2, pruning="halving"))
    first = list(itertools.islice(search.grid(), 100))
    assert len({tuple(values.values()) for values in first}) == 100
    assert first == list(itertools.islice(search.grid(), 100))


@pytest.mark.parametrize("pruning", ["none", "halving"])
def test_a_grid_holds_every_combination_once(describe, pruning):
    space = {"one": ["a", None, 2], "two": {"min": 1, "max": 9, "step": 2}, "three": {"min": 3, "max": 4}}
    search = read_search(describe(space, pruning=pruning))
    rows = [tuple(values.values()) for values in search.grid()]
    every = list(itertools.product(["a", None, 2], [1, 3, 5, 7, 9], [3, 4]))
    assert (rows == every) == (pruning == "none")
    assert sorted(map(repr, rows)) == sorted(map(repr, every))


def test_the_random_order_of_a_grid_may_be_any(describe):
    orders = set()
    for seed in range(300):
        search = read_search(describe({"width": [1, 2, 3, 4]}, base={"seed": seed}, pruning="halving"))
        orders.add(tuple(values["width"] for values in search.grid()))
    assert orders == set(itertools.permutations([1, 2, 3, 4]))  # 24; one of them is missed once in 20,000 times


@pytest.mark.parametrize(
    ("space", "count"),
    [
        ({"width": [1, 2, 3], "other": [None, "a"]}, 6),
        ({"width": {"min": 1, "max": 60}}, 60),
        ({"learning_rate": {"min": 0.1, "max": 0.1}}, 1),
        ({"learning_rate": {"min": 0.1, "max": 0.1, "log": True}, "width": [1, 2]}, 2),
        ({}, 1),
    ],
    ids=["choices", "whole numbers", "no room", "no room beside choices", "nothing"],
)
def test_a_space_is_drawn_to_its_end_and_no_further(describe, space, count):
    search = read_search(describe(space, method="random", num_trials=10**9))
    drawn = [json.dumps(values) for values in random_draws(search)]
    assert len(drawn) == len(set(drawn)) == count == search.wanted


def test_a_range_whose_numbers_run_out_ends_too(describe):
    search = read_search(describe({"learning_rate": {"min": 10, "max": 10.1}}, method="random", num_trials=10**9))
    drawn = [values["learning_rate"] for values in random_draws(search)]
    assert 90 < len(set(drawn)) == len(drawn) <= 1001


def test_what_ends_while_the_others_are_ranked_keeps_its_checkpoints(describe, monkeypatch):
    """Two trials may end at the same moment: the second has no rank yet when the first has seen to what is kept."""
    trials = trained(describe(RATES, keep=1))
    for trial in trials:
        trial.experiment.file("best.pth.tar").touch()
    best = list(trials)[-1]
    result = best.experiment.file("status.json").read_text()
    best.experiment.file("status.json").write_text(
        json.dumps(json.loads(result) | {"state": "running", "host": "other"})
    )
    ranking = Trials.ranking

    def ending_meanwhile(self):
        ranked = ranking(self)
        best.experiment.file("status.json").write_text(result)
        return ranked

    monkeypatch.setattr(Trials, "ranking", ending_meanwhile)
    trials.drop_checkpoints()
    assert best.experiment.file("best.pth.tar").is_file()
    trials.drop_checkpoints()
    kept = [trial for trial in trials if trial.experiment.file("best.pth.tar").is_file()]
    assert kept == [best]
