"""Whether scores differ by more than chance: mean, spread, Student's interval, paired and Welch's tests, Holm.

SciPy has all of this, and takes 0.6 s to import, three times as long as the table of a hundred experiments takes.

Which test: a handful of runs is the rule in deep learning, and with so few only Student's t keeps its promise; a
bootstrap interval over three runs holds the true mean in some 75 cases of 100 where it says 95. Runs that share a seed
share their first weights and the order of their data, so that it is their differences that are tested; Welch's test is
for runs that share nothing. Below six runs a verdict says more about luck than about the method (Colas, Sigaud,
Oudeyer: "How many random seeds?", 2018). Several rows against one best are several chances to be wrong, for which
Holm's procedure (1979) pays less than Bonferroni's (Demsar: "Statistical comparisons of classifiers", 2006).
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

CONFIDENCE = 0.95
FEWEST = 6  # runs below which no verdict is given
FEWEST_FOR_INTERVAL = 3  # two runs of an accuracy can give an interval from -0.45 to 1.49
ROUNDING = 1e-12  # of a value: what the same numbers can differ by that were added up in another order
INTERVAL, CUT, RANGE = "95 % interval", "95 % interval, cut", "range"


@dataclass(slots=True)
class Summary:
    """What some values have in common; one value alone has no spread, hence no deviation and no ends."""

    count: int  # of those that are numbers
    mean: float  # NaN where none is
    deviation: float | None  # of the sample: over n - 1
    low: float | None
    high: float | None
    ends: str | None = None  # what `low` and `high` are the ends of


class Difference(NamedTuple):
    """How far apart two means are, and how likely it is to find them so far apart or farther, were they equal."""

    mean: float  # the first less the second
    p: float


def summarize(values: Sequence[float], within: tuple[float, float] | None = None) -> Summary:
    """Mean, standard deviation and Student's interval of the values that are numbers; of two, their range instead.

    The interval is cut to `within`, where it is known that no value can be outside. Values that are all the same have
    none: it would be a point, though they may be the same by chance, as accuracies of few examples often are.
    """
    numbers = [value for value in values if math.isfinite(value)]
    count = len(numbers)
    mean = mean_of(numbers) if numbers else math.nan
    if count < 2:
        return Summary(count, mean, None, None, None)
    deviation = _deviation(numbers)
    if count < FEWEST_FOR_INTERVAL:
        return Summary(count, mean, deviation, min(numbers), max(numbers), RANGE)
    if deviation == 0:
        return Summary(count, mean, deviation, None, None)
    margin = student_quantile(count - 1) * deviation / math.sqrt(count)
    low, high = mean - margin, mean + margin
    least, most = within or (low, high)
    if least <= low and high <= most:
        return Summary(count, mean, deviation, low, high, INTERVAL)
    return Summary(count, mean, deviation, max(low, least), min(high, most), CUT)


def mean_of(values: Sequence[float]) -> float:
    """The mean of at least one value; that of equal ones is no less and no more than they are."""
    return min(max(math.fsum(values) / len(values), min(values)), max(values))


def is_rounding(difference: float, *values: float) -> bool:
    """Whether a difference between values of this size is no more than rounding can make."""
    return abs(difference) <= ROUNDING * max(map(abs, values))


def paired_test(one: Sequence[float], other: Sequence[float]) -> Difference:
    """The paired t test: what is held against chance are the differences of the pairs."""
    pairs = list(zip(one, other, strict=True))
    differences = [0.0 if is_rounding(a - b, a, b) else a - b for a, b in pairs]
    error = _deviation(differences) / math.sqrt(len(differences))
    return _tested(mean_of(differences), error, len(differences) - 1)


def welch_test(one: Sequence[float], other: Sequence[float]) -> Difference:
    """Welch's t test, the same for values that are not paired and may spread differently."""
    means = mean_of(one), mean_of(other)
    difference = 0.0 if is_rounding(means[0] - means[1], *means) else means[0] - means[1]
    errors = [_deviation(values) / math.sqrt(len(values)) for values in (one, other)]
    error = math.hypot(*errors)
    shares = [(part / error) ** 2 if error else 0.5 for part in errors]
    freedom = 1 / sum(share**2 / (len(values) - 1) for share, values in zip(shares, (one, other), strict=True))
    return _tested(difference, error, freedom)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values of several tests, each raised by so much that all together are wrong as seldom as one alone."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def held_against(best: Mapping[Hashable, float], row: Mapping[Hashable, float]) -> Difference | None:
    """The test of the best's values, by repetition, against those of a row; None if there are too few."""
    shared = [repetition for repetition in best if repetition in row]
    if len(shared) >= FEWEST:
        return paired_test([best[repetition] for repetition in shared], [row[repetition] for repetition in shared])
    if min(len(best), len(row)) >= FEWEST:
        return welch_test(list(best.values()), list(row.values()))
    return None


# Student's t


@cache
def student_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """How many standard errors to each side hold so much of Student's t distribution."""
    low, high = 0.0, 1.0
    while student_p(high, freedom) > 1 - confidence:
        high *= 2
    for _ in range(60):  # halved to the last bit
        middle = (low + high) / 2
        low, high = (middle, high) if student_p(middle, freedom) > 1 - confidence else (low, middle)
    return high


def student_p(t: float, freedom: float) -> float:
    """How much of Student's t distribution lies beyond `t` on both sides."""
    return _incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction is slow, the other end of the distribution is not
        return 1 - _incomplete_beta(1 - x, b, a)
    logarithm = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(logarithm) / a / _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function, by Lentz's method (DLMF 8.17.22, 3.10)."""
    value, above, below = 1.0, 1.0, 0.0
    for step in range(1, 1000):
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + step - 1) * (a + step))
        else:
            term = m * (b - m) * x / ((a + step - 1) * (a + step))
        below = 1 / (1 + term * below)
        above = 1 + term / above
        value *= above * below
        if abs(above * below - 1) < 1e-15:
            break
    return value


def _deviation(values: Sequence[float]) -> float:
    mean = mean_of(values)
    return math.hypot(*(value - mean for value in values)) / math.sqrt(len(values) - 1)  # squares would overflow


def _tested(difference: float, error: float, freedom: float) -> Difference:
    """A difference with its standard error; without any error it is certain."""
    if error == 0:
        return Difference(difference, float(difference == 0))
    return Difference(difference, student_p(difference / error, freedom))
