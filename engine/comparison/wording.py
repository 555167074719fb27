"""Numbers and names as people read them."""

import json
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

DIGITS = 4  # of a typical number in a column
MOST_DIGITS = 7
MOST_DECIMALS = 6
LARGE = 1e6  # from which on numbers are told as powers of ten


@dataclass(frozen=True, slots=True)
class Numbers:
    """How the numbers of one column are told: four digits of most of them, two at least in which most of them differ.

    What is much larger or smaller than most keeps four digits of its own, and takes none from the others.

    >>> Numbers.like([0.95123, 0.9]).text(0.9), Numbers.like([2.31, 1.9, 1.2, 4821.0]).text(1.9)
    ('0.9000', '1.900')
    """

    typical: float
    digits: int  # of a typical one

    @classmethod
    def like(cls, values: Iterable[float | None]) -> "Numbers":
        """How to tell these values."""
        numbers = [value for value in values if value is not None and math.isfinite(value)]
        sizes = sorted(abs(value) for value in numbers if value)
        typical = sizes[len(sizes) // 2] if sizes else 1.0
        spread = _bulk_spread(sorted(set(numbers)))
        if spread < typical * 10**-MOST_DIGITS:  # by rounding, if at all
            return cls(typical, DIGITS)
        needed = _places(typical) + 1 - math.floor(math.log10(spread))
        return cls(typical, min(max(DIGITS, needed), MOST_DIGITS))

    @property
    def decimals(self) -> int:
        """How many digits stand after the point."""
        return max(0, self.digits - _places(self.typical))

    def text(self, value: float) -> str:
        """One of the values."""
        size = abs(value)
        if value == 0 or not math.isfinite(value):
            return f"{value:.{min(self.decimals, DIGITS)}f}"
        if size >= LARGE or self.decimals > MOST_DECIMALS:
            return f"{value:.{self.digits}g}"
        if size * 10**self.decimals < 10 or (self.decimals and size >= 100 * self.typical):
            return f"{value:.{max(DIGITS, _places(size))}g}"
        return f"{value:.{self.decimals}f}"

    def deviation(self, value: float) -> str:
        """A standard deviation, as exact as its mean; one digit where that would show nothing of it.

        >>> Numbers.like([0.9]).deviation(0.0123), Numbers.like([0.9]).deviation(0.00001)
        ('0.0123', '1e-05')
        """
        if value >= LARGE or self.decimals > MOST_DECIMALS:
            return f"{value:.{DIGITS}g}"
        text = f"{value:.{self.decimals}f}"
        return f"{value:.1g}" if value and not float(text) else text

    def spread(self, mean: float, deviation: float | None) -> str:
        """A mean and its deviation, if it has one: `0.9200 ± 0.0100`."""
        return self.text(mean) if deviation is None else f"{self.text(mean)} ± {self.deviation(deviation)}"


def _places(size: float) -> int:
    """How many digits a number has before the point; negative if zeros follow it."""
    return math.ceil(math.log10(size))


def _bulk_spread(numbers: list[float]) -> float:
    """How wide the narrowest half of some sorted numbers is; 0 if there are fewer than two."""
    half = len(numbers) // 2
    return min((high - low for low, high in zip(numbers, numbers[half:], strict=False)), default=0.0)


def param_text(value: Any) -> str:
    """A hyperparameter: nothing for None, numbers as typed or else to four digits, other values as JSON, text unquoted.

    >>> param_text(0.00123456789), param_text(0.99996), param_text(True), param_text([0.9, 0.99])
    ('0.001235', '0.99996', 'true', '[0.9, 0.99]')
    """
    if value is None:
        return ""
    if isinstance(value, float):
        typed = f"{value:g}"
        return typed if float(typed) == value else f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def amount(number: float) -> str:
    """A large count, three digits of it.

    >>> amount(99), amount(12345), amount(25_557_032)
    ('99', '12.3k', '25.6M')
    """
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def p_text(p: float) -> str:
    """A p value, as papers print it."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def span(values: Collection[int]) -> str:
    """One number if all are equal, else the least and the largest.

    >>> span([3, 7, 5])
    '3 to 7'
    """
    if not values:
        return ""
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def plain(text: str) -> str:
    """A text in one line: what is not to be printed, such as a newline in the name of a folder, as its escape."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
