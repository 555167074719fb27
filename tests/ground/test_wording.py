"""Durations, as everything that tells one says it."""

import pytest

from engine.wording import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.042, "0.04 s"),
        (5, "5.0 s"),
        (35.4, "35 s"),
        (200, "3.3 min"),
        (5999, "100.0 min"),
        (7200, "2.0 h"),
        (4e5, "4.6 d"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
