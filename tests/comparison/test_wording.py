"""Numbers are told as people read them."""

import math

import pytest

from engine.comparison.wording import Numbers, amount, p_text, param_text, plain, span


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.95123, 0.9], ["0.9512", "0.9000"]),
        ([1.0, 0.5], ["1.0000", "0.5000"]),
        ([2.5, 0.25], ["2.500", "0.250"]),
        ([231.46, 12.0], ["231.5", "12.0"]),
        ([12345.6, 7.0], ["12346", "7"]),
        ([2702.4, 0.02043], ["2702", "0.02043"]),  # losses of other tasks
        ([27024.6, 0.5], ["27025", "0.5"]),
        ([2.5, 0.0000123], ["2.500", "1.23e-05"]),
        ([2.31, 1.9, 1.2, 4821.0], ["2.310", "1.900", "1.200", "4821"]),  # one diverged
        ([2.31, 1.9, 1.2, 1e200], ["2.310", "1.900", "1.200", "1e+200"]),
        ([2.30258, 2.30259, 4821.0], ["2.302580", "2.302590", "4821"]),
        ([0.99912, 0.99934, 0.9995, 0.5], ["0.99912", "0.99934", "0.99950", "0.50000"]),  # two digits that differ
        ([1234567.0, 1234568.0, 3.0], ["1234567", "1234568", "3"]),
        ([0.1 + 0.2, 0.3], ["0.3000", "0.3000"]),  # and rounding is none
        ([0.00004], ["4e-05"]),
        ([-0.5, 0.0, None, math.nan], ["-0.5000", "0.0000", "", "nan"]),
        ([3e9], ["3e+09"]),
        ([None], [""]),
    ],
)
def test_scores_keep_about_four_digits_below_one_another(values, texts):
    numbers = Numbers.like(values)
    assert ["" if value is None else numbers.text(value) for value in values] == texts


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (99, "99"), (999.6, "1k"), (12345, "12.3k"), (25_557_032, "25.6M"), (7e9, "7B")]
)
def test_amounts(number, text):
    assert amount(number) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (1e-5, "1e-05"),
        (0.0012345678, "0.001235"),  # drawn by a search
        (0.99996, "0.99996"),  # typed, and not 1
        (10**6, "1000000"),
        (["ä"], '["ä"]'),
    ],
)
def test_hyperparameters(value, text):
    assert param_text(value) == text


@pytest.mark.parametrize(
    ("deviation", "text"), [(0.0123, "0.0123"), (0.00004, "4e-05"), (0, "0.0000"), (math.nan, "nan")]
)
def test_a_deviation_is_told_like_its_mean_and_never_as_none(deviation, text):
    assert Numbers.like([0.9]).deviation(deviation) == text


def test_a_text_is_one_line():
    assert plain("a\nb\tü\u202e") == r"a\nb\tü\u202e"


def test_p_values_and_spans():
    assert [p_text(p) for p in (0.0004, 0.0126, 0.5)] == ["p < 0.001", "p = 0.013", "p = 0.50"]
    assert [span(values) for values in ([], [4], [4, 4], [3, 7, 5])] == ["", "4", "4", "3 to 7"]
