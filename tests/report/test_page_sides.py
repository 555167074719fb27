"""Rows beside one another on the page: what differs from the base of their search, and their code."""

import json

from tests.support.pages import shown
from tests.support.reports import make, report


def lines_of(browser, selector):
    script = (
        "return [...document.querySelector(arguments[0]).rows].map(row => [...row.cells].map(cell => cell.innerText))"
    )
    return browser.run(script, selector)


def test_what_differs_from_the_base_of_the_search_comes_first(browser, tmp_path):
    parent = tmp_path / "search"
    for width, decay in ((8, 0.1), (16, 0.1)):
        make(parent / f"width={width}", [width / 20], {"width": width, "weight_decay": decay, "zeal": 3, "seed": 230})
    base = {"width": 4, "weight_decay": 0.0, "zeal": 3, "learning_rate": 0.001, "num_epochs": 1, "_comment": "mine"}
    (parent / "params.json").write_text(json.dumps(base))
    shown(browser, report(tmp_path))
    head, *lines = lines_of(browser, "table.sides")
    assert head == ["", "search/width=16", "search/width=8", "search/params.json"]
    assert [line for line in lines if not line[0].startswith(("val", "test"))] == [
        ["width", "16", "8", "4"],
        ["weight_decay", "0.1", "0.1", "0.0"],  # the same in both, but not what the search began with
    ]
    browser.click("#provenance-content summary")
    assert browser.texts("#provenance-content h4")[:1] == [
        "Other hyperparameters than search/params.json has (in brackets)"
    ]
    own = browser.texts("#provenance-content dl")[0].split("\n")
    assert "0.1 (0.0)" in own
    assert "16 (4)" in own
    assert "zeal" not in own
    browser.run("document.querySelectorAll('#provenance-content details').forEach(one => one.open = true)")
    assert "zeal" in browser.texts("#provenance-content dl")[1]
    assert any("run.json (" in text for text in browser.texts("#provenance-content dd"))


def test_without_a_base_what_differs_between_experiments_comes_first(browser, tmp_path):
    for width in (8, 16):
        make(tmp_path / str(width), [width / 20], {"width": width, "zeal": 3})
    shown(browser, report(tmp_path))
    browser.click("#provenance-content summary")
    assert browser.texts("#provenance-content dl")[0] == "width\n16"


def test_the_code_of_two_picked_rows_is_compared(browser, tmp_path):
    patches = {"same": "+faster = 1", "again": "+faster = 1", "other": "+faster = 2"}
    for place, (name, patch) in enumerate(patches.items()):
        git = {"commit": "0" * 40, "patch": f"a line\n{patch}", "untracked": {}}
        make(tmp_path / name, [0.9 - place / 10], {"name": name}, git=git)
    shown(browser, report(tmp_path))
    assert "same and again ran with the same code." in browser.texts("#sides-content p")
    browser.click("#clear")
    for row in (1, 3):
        browser.click(f"#table tbody tr:nth-child({row}) input")
    assert "From same (-) to other (+):" in browser.texts("#sides-content p")
    assert [text.strip() for text in browser.texts(".diff .gone")] == ["-+faster = 1"]
    assert [text.strip() for text in browser.texts(".diff .added")] == ["++faster = 2"]
    browser.click("#clear")
    for row in (3, 1):
        browser.click(f"#table tbody tr:nth-child({row}) input")
    assert "From same (-) to other (+):" in browser.texts("#sides-content p")


def test_code_that_is_not_on_record_is_said_to_be_so(browser, tmp_path):
    make(tmp_path / "one", [0.5])
    (make(tmp_path / "two", [0.6], {"width": 2}) / "run.json").unlink()
    shown(browser, report(tmp_path))
    assert "The code of one of the first two rows is not on record." in browser.texts("#sides-content p")
