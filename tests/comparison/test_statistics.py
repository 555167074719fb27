"""The statistics are those of SciPy."""

import math
import random

import pytest
from scipy import stats

from engine.comparison.statistics import (
    FEWEST,
    holm,
    p_against,
    paired_p,
    student_p,
    student_quantile,
    summarize,
    welch_p,
)

SEVEN = [0.912, 0.905, 0.921, 0.899, 0.915, 0.908, 0.917]
OTHER = [0.901, 0.899, 0.908, 0.881, 0.911, 0.894, 0.903]


@pytest.mark.parametrize("freedom", [1, 1.5, 2, 3, 5, 9.7, 30, 500])
@pytest.mark.parametrize("t", [0, 1e-3, 0.1, 0.9, 2, 2.776, 7, 40, -2])
def test_students_distribution(freedom, t):
    assert student_p(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-7, abs=1e-300)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 6, 9, 29, 99])
def test_students_quantiles(freedom):
    assert student_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-12)
    assert student_quantile(freedom, 0.5) == pytest.approx(stats.t.ppf(0.75, freedom), rel=1e-12)


def test_a_summary():
    summary = summarize(SEVEN)
    low, high = stats.t.interval(0.95, 6, loc=summary.mean, scale=stats.sem(SEVEN))
    assert (summary.count, summary.mean) == (7, pytest.approx(sum(SEVEN) / 7))
    assert summary.deviation == pytest.approx(stats.tstd(SEVEN))
    assert (summary.low, summary.high) == (pytest.approx(low), pytest.approx(high))


def test_two_values_by_hand():
    summary = summarize([1.0, 3.0])
    assert (summary.mean, summary.deviation) == (2.0, pytest.approx(math.sqrt(2)))
    assert summary.high == pytest.approx(2 + 12.7062, abs=1e-4)  # the well-known t of one degree of freedom


def test_one_value_has_no_spread():
    summary = summarize([0.9])
    assert (summary.count, summary.mean, summary.deviation, summary.low, summary.high) == (1, 0.9, None, None, None)


def test_equal_values_have_none_either():
    assert summarize([0.5] * 4).deviation == 0
    assert summarize([0.5] * 4).low == 0.5


def test_what_is_not_a_number_stays_so():
    assert math.isnan(summarize([0.5, math.nan]).mean)


def test_the_paired_test():
    assert paired_p(SEVEN, OTHER) == pytest.approx(stats.ttest_rel(SEVEN, OTHER).pvalue)
    assert paired_p(OTHER, SEVEN) == paired_p(SEVEN, OTHER)


@pytest.mark.parametrize("count", [2, 4, 7])
def test_welchs_test(count):
    expected = stats.ttest_ind(SEVEN, OTHER[:count], equal_var=False).pvalue
    assert welch_p(SEVEN, OTHER[:count]) == pytest.approx(expected)


@pytest.mark.parametrize("test", [paired_p, welch_p])
def test_without_any_spread_it_is_certain(test):
    assert test([0.5] * 6, [0.5] * 6) == 1
    assert test([0.5] * 6, [0.25] * 6) == 0


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([0.001, 0.001, 0.2, 0.01], [0.004, 0.004, 0.2, 0.02]),
        ([], []),
    ],
)
def test_holms_procedure(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted)


def test_shared_seeds_are_paired():
    best, row = dict(enumerate(SEVEN)), dict(enumerate(OTHER))
    assert p_against(best, row) == pytest.approx(stats.ttest_rel(SEVEN, OTHER).pvalue)
    shuffled = dict(reversed(row.items()))
    assert p_against(best, shuffled) == p_against(best, row)
    one_more = {**row, 99: 0.1}
    assert p_against(best, one_more) == p_against(best, row)


def test_other_seeds_are_not():
    best, row = dict(enumerate(SEVEN)), {seed + 100: score for seed, score in enumerate(OTHER)}
    assert p_against(best, row) == pytest.approx(stats.ttest_ind(SEVEN, OTHER, equal_var=False).pvalue)


def test_too_few_seeds_tell_nothing():
    assert FEWEST == 6
    five, six = dict(enumerate(OTHER[:5])), dict(enumerate(OTHER[:6]))
    assert p_against(dict(enumerate(SEVEN)), five) is None
    assert p_against(five, dict(enumerate(SEVEN))) is None
    assert p_against(dict(enumerate(SEVEN)), six) == paired_p(SEVEN[:6], OTHER[:6])


def test_a_true_difference_of_none_is_found_in_one_of_twenty_cases():
    generator = random.Random(0)
    draws = [[generator.gauss(0, 1) for _ in range(7)] for _ in range(1200)]
    p_values = [paired_p(*pair) for pair in zip(draws[::2], draws[1::2], strict=True)]
    assert 0.03 < sum(p < 0.05 for p in p_values) / len(p_values) < 0.07
    covered = [summarize(draw[:3]) for draw in draws]
    assert 0.93 < sum(summary.low < 0 < summary.high for summary in covered) / len(covered) < 0.97
