"""What `search.json` may say, and what becomes of it."""

import json
import warnings

import pytest

from engine.errors import UserError
from engine.search.description import read_search
from engine.search.sampling import suggest

RANGES = {
    "learning_rate": {"min": 1e-4, "max": 1e-1, "log": True},
    "dropout_rate": [0.2, 0.5],
    "num_channels": {"min": 16, "max": 64, "step": 16},
    "weight_decay": {"min": 0, "max": 1, "step": 0.25},
}


@pytest.fixture
def search(tmp_path):
    """Reads a search: `search({"space": {...}}, num_epochs=3)`; the keywords are the base params."""

    def read(settings=None, num_trials=None, **base):
        (tmp_path / "params.json").write_text(json.dumps(base))
        if settings is not None:
            (tmp_path / "search.json").write_text(json.dumps(settings))
        return read_search(tmp_path, num_trials)

    return read


def test_without_a_file_it_is_the_three_learning_rates_of_the_course(search):
    assert list(search().grid()) == [{"learning_rate": 1e-4}, {"learning_rate": 1e-3}, {"learning_rate": 1e-2}]


def test_a_grid_is_every_combination(search):
    space = {"num_channels": RANGES["num_channels"], "dropout_rate": [0.2, 0.5]}
    found = search({"space": space})
    assert [tuple(values.values()) for values in found.grid()] == [
        (channels, rate) for channels in (16, 32, 48, 64) for rate in (0.2, 0.5)
    ]
    assert found.size == 8


def test_steps_end_where_they_are_meant_to(search):
    found = search({"space": {"amount": {"min": 0.1, "max": 0.7, "step": 0.1}}})
    assert [values["amount"] for values in found.grid()] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    uneven = search({"space": {"amount": {"min": 1, "max": 10, "step": 4}}})
    assert [values["amount"] for values in uneven.grid()] == [1, 5, 9]


def test_draws_know_where_the_steps_end(search):
    settings = {"space": {"amount": {"min": 1, "max": 10, "step": 4}}, "method": "random", "num_trials": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna's, of a range that its steps do not fill
        draws = {suggest("random", search(settings).space, 230, number)["amount"] for number in range(20)}
    assert draws == {1, 5, 9}


def test_steps_without_number_are_counted_and_not_listed(search):
    space = {"width": {"min": 1, "max": 10**12, "step": 1}, "depth": {"min": 1, "max": 3}}
    assert search({"space": space, "method": "random", "num_trials": 1}).size == 3 * 10**12


def test_an_empty_space_is_one_configuration(search):
    assert list(search({"space": {}, "seeds": [1, 2, 3]}).grid()) == [{}]


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_draws_lie_in_the_space_and_are_short_to_write(search, method):
    found = search({"space": RANGES, "method": method, "num_trials": 1})
    for number in range(30):
        values = suggest(method, found.space, 230, number)
        assert 1e-4 <= values["learning_rate"] <= 1e-1
        assert len(str(values["learning_rate"])) <= 9
        assert values["dropout_rate"] in (0.2, 0.5)
        assert values["num_channels"] in (16, 32, 48, 64)
        assert isinstance(values["num_channels"], int)
        assert values["weight_decay"] in (0, 0.25, 0.5, 0.75, 1)


@pytest.mark.parametrize("log", [False, True])
def test_draws_between_ends_that_are_close_have_digits_enough_to_differ(search, log):
    meant = {"min": 0.999, "max": 0.9999, "log": log}
    found = search({"space": {"ema_decay": meant}, "method": "random", "num_trials": 1})
    draws = {suggest("random", found.space, 230, number)["ema_decay"] for number in range(50)}
    assert len(draws) == 50
    assert all(0.999 <= draw <= 0.9999 and len(str(draw)) <= 9 for draw in draws)


@pytest.mark.parametrize(
    ("meant", "lies_there", "lies_elsewhere"),
    [
        ({"min": 1, "max": 10, "step": 4}, [1, 5, 9], [0, 2, 10, 13, 5.5, True]),
        ({"min": 0.1, "max": 0.7, "step": 0.1}, [0.1, 0.3, 0.7], [0.25, 0.8]),
        ({"min": 1, "max": 9}, [1, 2, 9], [1.5, 10]),
        ({"min": 0.5, "max": 9}, [0.5, 1, 8.999], [0.4, "1"]),
        ([1, "a", None], [1, "a", None], [2, "b"]),
    ],
    ids=["whole steps", "steps", "whole", "any number", "a list"],
)
def test_a_trial_lies_in_the_space_if_its_value_can_be_drawn(search, meant, lies_there, lies_elsewhere):
    found = search({"space": {"width": meant}, "method": "random", "num_trials": 1})
    assert all(found.holds(found.in_effect({"width": value}, "")) for value in lies_there)
    assert not any(found.holds(found.in_effect({"width": value}, "")) for value in lies_elsewhere)


def test_a_logarithmic_range_is_drawn_evenly_over_its_magnitudes(search):
    settings = {"space": {"learning_rate": RANGES["learning_rate"]}, "method": "random", "num_trials": 1}
    draws = [suggest("random", search(settings).space, 230, number)["learning_rate"] for number in range(200)]
    assert 45 < sum(rate < 1e-3 for rate in draws) < 90  # a third of them


@pytest.mark.parametrize(
    ("base", "meant", "kind"),
    [
        ({}, {"min": 1, "max": 9}, int),
        ({}, {"min": 1, "max": 9.5}, float),
        ({"width": 3}, {"min": 1, "max": 9}, int),
        ({"width": 0.5}, {"min": 0, "max": 1}, float),
    ],
    ids=["whole ends", "another end", "whole in the base", "a number in the base"],
)
def test_whether_a_range_is_of_whole_numbers_follows_from_its_ends_and_the_base(search, base, meant, kind):
    found = search({"space": {"width": meant}, "method": "random", "num_trials": 1}, **base)
    assert isinstance(suggest("random", found.space, 230, 0)["width"], kind)


def test_a_float_of_the_table_is_drawn_as_one_between_whole_ends(search):
    found = search({"space": {"learning_rate": {"min": 0, "max": 1}}, "method": "random", "num_trials": 1})
    assert 0 < suggest("random", found.space, 230, 0)["learning_rate"] < 1


def test_the_command_line_stands_in_for_the_number_of_trials(search):
    settings = {"space": RANGES, "method": "random", "num_trials": 3}
    assert search(settings).num_trials == 3
    assert search(settings, num_trials=7).num_trials == 7


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"spaces": {}}, '"spaces" is no setting of a search; did you mean "space"?'),
        ({}, '"space" is not there'),
        ({"space": []}, '"space" must be an object'),
        ({"space": {"learning_rate": 0.1}}, '"learning_rate" must be a list of values, or'),
        ({"space": {"learning_rate": []}}, '"learning_rate" must be a list of values, or'),
        ({"space": {"learning_rate": {"min": 1}}}, '"learning_rate" must be a list of values, or'),
        ({"space": {"learning_rate": {"min": 1, "max": 2, "lag": True}}}, '"learning_rate" must be a list of values'),
        ({"space": {"learning_rat": [1]}}, '"learning_rat" is in no params; did you mean "learning_rate"?'),
        ({"space": {"widht": [1]}}, '"widht" is in no params; did you mean "width"?'),
        ({"space": {"width": [1, 1]}}, '"width" has the same value twice'),
        ({"space": {"learning_rate": {"min": "0", "max": 1}}}, "min, max and step must be numbers"),
        ({"space": {"learning_rate": {"min": 1, "max": 0, "step": 1}}}, "min must not be above max"),
        ({"space": {"learning_rate": {"min": 0, "max": 1, "step": 0}}}, "step be above 0"),
        ({"space": {"learning_rate": {"min": 0, "max": 1, "log": True}}}, "for a min above 0 and without a step"),
        ({"space": {"learning_rate": {"min": 1, "max": 2, "log": 1}}}, '"log" is true or false'),
        ({"space": {"batch_size": {"min": 1.5, "max": 2, "step": 1}}}, '"batch_size" must be a whole number'),
        ({"space": {"learning_rate": {"min": 0, "max": 1}}}, 'needs a "step" or a list of values in a grid'),
        ({"space": RANGES, "method": "random"}, 'method "random" needs "num_trials"'),
        ({"space": {}, "method": "randm"}, 'must be one of grid, random, tpe, not "randm"; did you mean "random"?'),
        ({"space": {}, "pruning": True}, '"pruning" must be text in quotes, not true'),
        ({"space": {}, "num_trials": 0}, '"num_trials" must be at least 1, not 0'),
        ({"space": {}, "keep": True}, '"keep" must be a whole number, not true'),
        ({"space": {}, "seeds": [1, 1]}, '"seeds" has the same seed twice'),
        ({"space": {}, "seeds": ["1"]}, '"seed" must be a whole number, not "1"'),
        ({"space": {}, "seeds": 3}, '"seeds" must be a list, not 3'),
        ({"space": {"monitor": ["loss"]}}, '"monitor" stands in the space; one score ranks all trials'),
        ({"space": {"mode": ["max"]}}, '"mode" stands in the space; one score ranks all trials'),
        ({"space": {"task": ["model"]}}, '"task" stands in the space; scores of two tasks do not compare'),
        ({"space": {"width": {"min": 1, "max": 10**7, "step": 1}}}, "a grid of 10,000,000 configurations; say with"),
        ({"space": {"seed": [1]}}, '"seed" stands in the space; the seeds to take the mean over go into "seeds"'),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_makes_no_search_is_one_line(search, settings, said):
    with pytest.raises(UserError) as error:
        search(settings, width=3)
    assert said in str(error.value)
    assert "search.json: " in str(error.value)


@pytest.mark.parametrize("seed", ["one", None, -1], ids=str)
def test_params_that_cannot_be_are_told_before_anything_is_drawn_from_their_seed(search, seed):
    with pytest.raises(UserError, match=r'params\.json: "seed" must be'):
        search({"space": RANGES, "method": "random", "num_trials": 1}, seed=seed)


def test_a_comment_may_stand_in_the_file(search):
    assert search({"_why": "rates only", "space": {"learning_rate": [1]}}).size == 1
