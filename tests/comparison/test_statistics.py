"""The statistics are those of SciPy."""

import math
import random

import pytest
from scipy import stats

from engine.comparison.statistics import (
    FEWEST,
    held_against,
    holm,
    mean_of,
    paired_test,
    student_p,
    student_quantile,
    summarize,
    welch_test,
)

SEVEN = [0.912, 0.905, 0.921, 0.899, 0.915, 0.908, 0.917]
OTHER = [0.901, 0.899, 0.908, 0.881, 0.911, 0.894, 0.903]


@pytest.mark.parametrize("freedom", [1, 1.5, 2, 3, 5, 9.7, 30, 500])
@pytest.mark.parametrize("t", [0, 1e-3, 0.1, 0.9, 2, 2.776, 7, 40, -2])
def test_students_distribution(freedom, t):
    assert student_p(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-7, abs=1e-300)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 6, 9, 29, 99])
def test_students_quantiles(freedom):
    assert student_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-10)  # so exact is SciPy 1.16
    assert student_quantile(freedom, 0.5) == pytest.approx(stats.t.ppf(0.75, freedom), rel=1e-10)


def test_a_summary():
    summary = summarize(SEVEN)
    low, high = stats.t.interval(0.95, 6, loc=summary.mean, scale=stats.sem(SEVEN))
    assert (summary.count, summary.mean) == (7, pytest.approx(sum(SEVEN) / 7))
    assert summary.deviation == pytest.approx(stats.tstd(SEVEN))
    assert (summary.low, summary.high) == (pytest.approx(low), pytest.approx(high))


def test_of_two_values_there_is_no_interval_but_their_range():
    summary = summarize([0.6, 0.4])
    assert (summary.mean, summary.deviation) == (0.5, pytest.approx(math.sqrt(0.02)))
    assert (summary.low, summary.high, summary.ends) == (0.4, 0.6, "range")  # Student's would be -0.77 to 1.77


@pytest.mark.parametrize(
    ("values", "low", "high", "ends"),
    [
        ([0.97, 0.99, 0.999], 0.9495, 1.0, "95 % interval, cut"),
        ([0.01, 0.02, 0.09], 0.0, 0.1483, "95 % interval, cut"),
        ([0.5, 0.51, 0.52], 0.4852, 0.5348, "95 % interval"),
    ],
)
def test_the_interval_ends_where_no_value_can_be(values, low, high, ends):
    summary = summarize(values, within=(0, 1))
    assert (summary.low, summary.high, summary.ends) == (
        pytest.approx(low, abs=1e-4),
        pytest.approx(high, abs=1e-4),
        ends,
    )
    whole = stats.t.interval(0.95, 2, loc=summary.mean, scale=stats.sem(values))
    assert (summary.low, summary.high) == pytest.approx((max(0, whole[0]), min(1, whole[1])))


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200, 1e299])
def test_values_of_any_size(size):
    values, others = [size * value for value in SEVEN], [size * value for value in OTHER]
    summary, plain = summarize(values), summarize(SEVEN)
    for name in ("mean", "deviation", "low", "high"):
        assert getattr(summary, name) == pytest.approx(size * getattr(plain, name), rel=1e-9)
    for test in (paired_test, welch_test):
        assert test(values, others).p == pytest.approx(test(SEVEN, OTHER).p)


@pytest.mark.parametrize("value", [5 / 360, 0.1, 1 / 3, 0.9 + 1e-16, 123456.7])
def test_the_mean_of_equal_values_is_that_value(value):
    assert {mean_of([value] * count) for count in range(1, 60)} == {value}
    summaries = [summarize([value] * count) for count in range(2, 60)]
    assert {(summary.mean, summary.deviation) for summary in summaries} == {(value, 0)}


def test_one_value_has_no_spread():
    summary = summarize([0.9])
    assert (summary.count, summary.mean, summary.deviation, summary.low, summary.high) == (1, 0.9, None, None, None)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("value", [0.0, 0.1, 0.5, 1.0])
def test_equal_values_have_an_interval_as_little_as_one_value_has(value):
    summary = summarize([value] * 4, within=(0, 1))
    assert (summary.count, summary.mean, summary.deviation) == (4, value, 0)
    assert (summary.low, summary.high, summary.ends) == (None, None, None)
    assert all(map(math.isnan, stats.t.interval(0.95, 3, loc=value, scale=0)))  # nor does SciPy know one


def test_what_is_not_a_number_is_counted_out():
    summary = summarize([0.5, math.nan, 0.7])
    assert (summary.count, summary.mean) == (2, 0.6)
    alone = summarize([math.nan])
    assert (alone.count, math.isnan(alone.mean), alone.deviation) == (0, True, None)


def test_the_paired_test():
    expected = stats.ttest_rel(SEVEN, OTHER)
    assert paired_test(SEVEN, OTHER).p == pytest.approx(expected.pvalue)
    assert paired_test(OTHER, SEVEN).p == paired_test(SEVEN, OTHER).p
    assert paired_test(SEVEN, OTHER).mean == pytest.approx(sum(SEVEN) / 7 - sum(OTHER) / 7)
    assert paired_test(OTHER, SEVEN).mean < 0


@pytest.mark.parametrize("count", [2, 4, 7])
def test_welchs_test(count):
    expected = stats.ttest_ind(SEVEN, OTHER[:count], equal_var=False).pvalue
    assert welch_test(SEVEN, OTHER[:count]).p == pytest.approx(expected)


@pytest.mark.parametrize("test", [paired_test, welch_test])
def test_without_any_spread_it_is_certain(test):
    assert test([0.5] * 6, [0.5] * 6) == (0, 1)
    assert test([0.5] * 6, [0.25] * 6) == (0.25, 0)


def test_rounding_is_no_difference():
    assert welch_test([5 / 360] * 6, [5 / 360] * 7) == (0, 1)
    others = [0.3, 0.7 + 0.1, 0.3, 0.7 + 0.1, 3.3, 3.3]
    sums = [0.1 + 0.2, 0.8, 0.1 + 0.2, 0.8, 1.1 + 2.2, 1.1 + 2.2]
    assert all(one > other for one, other in zip(sums, others, strict=True))
    assert paired_test(sums, others) == (0, 1)
    assert welch_test([0.1 + 0.2] * 6, [0.3] * 6) == (0, 1)
    assert paired_test([value + 1e-9 for value in others], others).p < 1e-3  # small is not nothing


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
    assert held_against(best, row).p == pytest.approx(stats.ttest_rel(SEVEN, OTHER).pvalue)
    shuffled = dict(reversed(row.items()))
    assert held_against(best, shuffled) == held_against(best, row)
    one_more = {**row, 99: 0.1}
    assert held_against(best, one_more) == held_against(best, row)


def test_other_seeds_are_not():
    best, row = dict(enumerate(SEVEN)), {seed + 100: score for seed, score in enumerate(OTHER)}
    assert held_against(best, row).p == pytest.approx(stats.ttest_ind(SEVEN, OTHER, equal_var=False).pvalue)


def test_too_few_seeds_tell_nothing():
    assert FEWEST == 6
    five, six = dict(enumerate(OTHER[:5])), dict(enumerate(OTHER[:6]))
    assert held_against(dict(enumerate(SEVEN)), five) is None
    assert held_against(five, dict(enumerate(SEVEN))) is None
    assert held_against(dict(enumerate(SEVEN)), six) == paired_test(SEVEN[:6], OTHER[:6])


def test_a_true_difference_of_none_is_found_in_one_of_twenty_cases():
    generator = random.Random(0)
    draws = [[generator.gauss(0, 1) for _ in range(7)] for _ in range(1200)]
    p_values = [paired_test(*pair).p for pair in zip(draws[::2], draws[1::2], strict=True)]
    assert 0.03 < sum(p < 0.05 for p in p_values) / len(p_values) < 0.07
    covered = [summarize(draw[:3]) for draw in draws]
    assert 0.93 < sum(summary.low < 0 < summary.high for summary in covered) / len(covered) < 0.97
