"""Names in a narrow place: as short as can be, told apart, and good to find the row again."""

import random

import pytest

from engine.comparison.names import fits, short_names

SEARCH = [
    f"search/learning_rate={rate},num_channels={width},weight_decay={decay},seed=*"
    for rate in (0.1, 0.15, 0.01)
    for width in (1, 16)
    for decay in (0.0, 0.1)
]


def test_what_all_have_in_common_goes_first():
    assert short_names(SEARCH, 30)[:3] == ["*=0.1,*=1,*=0.0,*", "*=0.1,*=1,*=0.1,*", "*=0.1,*=16,*=0.0,*"]
    assert short_names([*SEARCH, "base", "wide/base"], 30)[-3:] == ["*=0.01,*=16,*=0.1,*", "base", "wide/base"]


def test_what_fits_stays_as_it_is():
    assert short_names(["a", "b" * 20], 20) == ["a", "b" * 20]
    assert short_names(["rate=1", "rate=2"], 6) == ["rate=1", "rate=2"]


@pytest.mark.parametrize("limit", [8, 12, 20, 28, 40])
@pytest.mark.parametrize("kind", ["search", "digits", "words", "mixed", "one"])
def test_each_short_name_stands_for_its_own_row_alone(kind, limit):
    draw = random.Random(kind)
    words = ["".join(draw.choices("abc", k=draw.randint(1, 40))) for _ in range(30)]
    digits = [f"{draw.random()},{draw.random()}" for _ in range(30)]
    made = {"search": SEARCH, "digits": digits, "words": words, "mixed": [*SEARCH, *words], "one": ["x" * 50]}
    names = list(dict.fromkeys(made[kind]))
    short = short_names(names, limit)
    assert len(set(short)) == len(names)
    assert all(fits(name, pattern) for name, pattern in zip(names, short, strict=True))
    told = [sum(fits(name, pattern) for name in names) for pattern in short if "*" in pattern]
    assert set(told) <= {1}
    assert max(map(len, short)) <= max(limit, 24)


def test_rows_of_one_name_are_no_reason_to_show_it_whole():
    assert short_names(["x" * 50] * 3, 10) == ["xxxx*xxxxx"] * 3


def test_letters_that_mean_something_elsewhere_are_themselves():
    assert fits("a[1].b,seed=*", "a[1]*seed=*")
    assert not fits("ab", "a.")
