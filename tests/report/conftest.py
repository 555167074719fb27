"""One browser for all tests of the page: to start it takes longer than most of them."""

import pytest

from tests.support.browser import opened, why_no_browser
from tests.support.reports import PIXEL, make, report, search


@pytest.fixture(scope="session")
def whole_browser(tmp_path_factory):
    missing = why_no_browser()
    if missing is not None:
        pytest.skip(missing)
    with opened(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(whole_browser):
    """The browser, in the light and 1280 pixels wide, whatever the test before did to it."""
    whole_browser.resize(1280, 900)
    whole_browser.command("Emulation.setEmulatedMedia", media="", features=[])
    return whole_browser


@pytest.fixture(scope="session")
def searched(tmp_path_factory):
    """The report of a search, written once."""
    parent = search(tmp_path_factory.mktemp("searched") / "lights")
    look = {"split": "test", "checkpoint": "best", "at": "2026-11-20T12:00:00+0000", "scores": {"accuracy": 0.9}}
    folder = make(parent / "looked", [0.65], {"learning_rate": 0.5}, evaluations=[look])
    (folder / "confusion_test.png").write_bytes(PIXEL)
    return report(parent)
