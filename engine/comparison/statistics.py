"""Whether scores differ by more than chance: mean, spread, Student's interval, paired and Welch's tests, Holm.

SciPy has all of this and takes three times as long to import as a hundred experiments take to read.

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

CONFIDENCE = 0.95
FEWEST = 6  # runs below which no verdict is given


@dataclass(slots=True)
class Summary:
    """What some values have in common; one value alone has no spread, hence no deviation and no interval."""

    count: int
    mean: float
    deviation: float | None  # of the sample: over n - 1
    low: float | None  # the interval that holds the true mean in 95 of 100 cases
    high: float | None


def summarize(values: Sequence[float]) -> Summary:
    """Mean, standard deviation and Student's interval of at least one value."""
    count, mean = len(values), math.fsum(values) / len(values)
    if count == 1:
        return Summary(1, mean, None, None, None)
    deviation = math.sqrt(_variance(values))
    margin = student_quantile(count - 1) * deviation / math.sqrt(count)
    return Summary(count, mean, deviation, mean - margin, mean + margin)


def paired_p(one: Sequence[float], other: Sequence[float]) -> float:
    """The paired t test: how likely differences this far from 0 are, were there none in truth."""
    differences = [a - b for a, b in zip(one, other, strict=True)]
    error = math.sqrt(_variance(differences) / len(differences))
    return _p_of(math.fsum(differences) / len(differences), error, len(differences) - 1)


def welch_p(one: Sequence[float], other: Sequence[float]) -> float:
    """Welch's t test, the same for values that are not paired and may spread differently."""
    a, b = _variance(one) / len(one), _variance(other) / len(other)
    freedom = (a + b) ** 2 / (a**2 / (len(one) - 1) + b**2 / (len(other) - 1)) if a + b > 0 else 1.0
    return _p_of(math.fsum(one) / len(one) - math.fsum(other) / len(other), math.sqrt(a + b), freedom)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values of several tests, each raised by so much that all together are wrong as seldom as one alone."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def p_against(best: Mapping[Hashable, float], row: Mapping[Hashable, float]) -> float | None:
    """How likely it is that a row's values, by repetition, differ so from the best's by chance; None if too few."""
    shared = [repetition for repetition in best if repetition in row]
    if len(shared) >= FEWEST:
        return paired_p([best[repetition] for repetition in shared], [row[repetition] for repetition in shared])
    if min(len(best), len(row)) >= FEWEST:
        return welch_p(list(best.values()), list(row.values()))
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


def _variance(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def _p_of(difference: float, error: float, freedom: float) -> float:
    """The p value of a difference with its standard error; without any error it is certain."""
    if error == 0:
        return float(difference == 0)
    return student_p(difference / error, freedom)
