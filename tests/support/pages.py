"""The page of a report in a browser: opened, used, and what is to be seen on it."""

from pathlib import Path
from typing import Any

from tests.support.browser import Browser

FIGURE = "document.querySelector('#curves-figure')"
FIGURES = "[...document.querySelectorAll('.figure')]"


def shown(browser: Browser, page: Path, address: str = "") -> Browser:
    """The page, opened, all of it there; `address` is what stands behind the `#`."""
    browser.open(page, address)
    browser.wait("document.documentElement.dataset.ready")
    return browser


def names(browser: Browser) -> list[str]:
    """The names of the rows of the table."""
    return browser.texts("#table tbody .name")


def scroll_to(browser: Browser, selector: str) -> None:
    """Scroll to an element, at once."""
    browser.run("document.querySelector(arguments[0]).scrollIntoView({behavior: 'instant'})", selector)


def wait_for_figures(browser: Browser) -> int:
    """Scroll through the page, so that all its figures are drawn; how many there are."""
    number = browser.run(f"return {FIGURES}.length")
    for place in range(number):
        browser.run(f"{FIGURES}[{place}].scrollIntoView({{behavior: 'instant'}})")
        browser.wait(f"{FIGURES}[{place}].dataset.drawn || {FIGURES}[{place}].querySelector('.note')")
    return number


def in_each_figure(browser: Browser, expression: str) -> list[Any]:
    """What an expression in `one` comes to for each figure."""
    return browser.run(f"return {FIGURES}.map(one => {expression})")


def choose(browser: Browser, selector: str, value: object) -> None:
    """Choose in a list, or set a slider."""
    script = (
        "const one = document.querySelector(arguments[0]); one.value = arguments[1];"
        "['input', 'change'].forEach(name => one.dispatchEvent(new Event(name, {bubbles: true})))"
    )
    browser.run(script, selector, value)


def curves(browser: Browser) -> list[list[Any]]:
    """The name, part and number of points of each line that is drawn, bands left out."""
    scroll_to(browser, "#curves")
    browser.wait(f"{FIGURE}.dataset.drawn")
    told = "[line.name, line.line.dash, line.x.length]"
    return browser.run(f"return {FIGURE}.data.filter(line => line.meta === 'curve').map(line => {told})")


def press(browser: Browser, key: str) -> None:
    """Press a key, as a person does."""
    keys = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
    browser.ask("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": keys}]})
