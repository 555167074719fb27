"""Numbers and names as people read them."""

import json
import math
from collections.abc import Collection, Iterable
from typing import Any


def number_format(values: Iterable[float | None]) -> str:
    """The format in which all of a column's numbers keep about four digits, below one another where that is possible.

    >>> number_format([0.95123, 0.9]), number_format([231.4, 12.0]), number_format([1e-7, 2.0])
    ('.4f', '.1f', '.4g')
    """
    sizes = [abs(value) for value in values if value and math.isfinite(value)]
    if not sizes:
        return ".4f"
    places = math.ceil(math.log10(max(sizes)))  # before the point, of the largest
    decimals = max(0, 4 - places)
    too_small = min(sizes) < (10 ** (1 - decimals) if decimals else 1)  # two digits would be left of it, or fewer
    if decimals > 6 or max(sizes) >= 1e6:
        return ".4g"
    return f".{max(4, places)}g" if too_small else f".{decimals}f"


def spread_text(deviation: float, style: str) -> str:
    """A deviation in the format of its mean; one digit where that would show nothing of it.

    >>> spread_text(0.0123, ".4f"), spread_text(0.00001, ".4f")
    ('0.0123', '1e-05')
    """
    text = f"{deviation:{style}}"
    return f"{deviation:.1g}" if deviation and not float(text) else text


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


def duration(seconds: float) -> str:
    """A time span, two or three digits of it.

    >>> duration(0.042), duration(35), duration(200), duration(5000), duration(400000)
    ('0.04 s', '35 s', '3.3 min', '1.4 h', '4.6 d')
    """
    if seconds < 99.5:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    for unit, length, limit in (("min", 60, 100), ("h", 3600, 72)):
        if seconds < limit * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds / 86400:.1f} d"


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
