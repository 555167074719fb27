"""The table of the page: tasks apart from each other, rows grouped by any key, filters, picks, keyboard, paper."""

import statistics

import pytest

from tests.support.pages import FIGURE, choose, curves, in_each_figure, names, press, shown, wait_for_figures
from tests.support.reports import make, report

DOWN, UP, SPACE = "\ue015", "\ue013", " "


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Two tasks in one folder, each with hyperparameters and a score of its own."""
    parent = tmp_path_factory.mktemp("mixed")
    for width in (8, 16, 32):
        make(parent / "images" / f"width={width}", [0.5, width / 40], {"task": "model", "width": width})
    for rate in (0.1, 0.2):
        folder = make(parent / "words" / f"rate={rate}", [0.1], {"task": "examples.ner", "rate": rate})
        (folder / "metrics.jsonl").write_text('{"epoch": 1, "val_f1": 0.75, "val_accuracy": 0.5, "seconds": 2}\n')
    return report(parent)


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Two optimizers, three rates, two seeds; and one that failed."""
    parent = tmp_path_factory.mktemp("grid")
    for optimizer, start in (("Adam", 0.8), ("SGD", 0.6)):
        for place, rate in enumerate((0.001, 0.01, 0.1)):
            for seed in (1, 2):
                score = start + place / 50 + seed / 100
                params = {"optimizer": optimizer, "learning_rate": rate, "seed": seed}
                make(parent / f"{optimizer},{rate},{seed}", [score / 2, score], params)
    make(parent / "broken", [0.99], {"optimizer": "SGD", "learning_rate": 9.0}, state="failed")
    return report(parent)


def test_tasks_are_apart_from_each_other(browser, mixed):
    shown(browser, mixed)
    assert browser.texts("#summary")[0].startswith("5 experiments, of 2 tasks: 5 finished.")
    assert browser.texts("#tasks button") == ["model (3)", "examples.ner (2)"]
    assert (len(names(browser)), "rate" in browser.texts("th button")) == (3, False)
    assert "width" in browser.texts("th button")
    browser.click("#tasks button:nth-child(2)")
    assert (len(names(browser)), "width" in browser.texts("th button")) == (2, False)
    assert {"rate", "val f1"} <= set(browser.texts("th button"))
    assert {name for name, *_ in curves(browser)} == {"words/rate=0.1", "words/rate=0.2"}
    assert browser.texts("#tasks button[aria-pressed=true]") == ["examples.ner (2)"]
    wait_for_figures(browser)
    assert browser.log("browser") == []


def test_a_link_opens_the_task_that_was_seen(browser, mixed):
    shown(browser, mixed)
    browser.click("#tasks button:nth-child(2)")
    choose(browser, "#metric", "f1")
    address = browser.run("return location.hash")
    shown(browser, mixed, address)
    assert browser.texts("#tasks button[aria-pressed=true]") == ["examples.ner (2)"]
    assert browser.run("return document.querySelector('#metric').value") == "f1"


def test_one_task_alone_has_no_tabs(browser, grid):
    shown(browser, grid)
    assert browser.run("return document.querySelector('#tasks').hidden")


def cells(browser):
    """The cells of each row by its name, under their headings."""
    heads = browser.texts("th button")
    rows = browser.run(
        "return [...document.querySelectorAll('#table tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    )
    return {row[0]: dict(zip(heads, row, strict=True)) for row in rows}


def test_rows_can_be_grouped_by_any_key(browser, grid):
    shown(browser, grid)
    assert {"seeds", "apart", "by optimizer", "by learning_rate", "by state"} <= set(
        browser.run("return [...document.querySelector('#rows').options].map(one => one.value)")
    )
    choose(browser, "#rows", "by optimizer")
    rows = cells(browser)
    assert list(rows) == ["optimizer=Adam", "optimizer=SGD"]
    scores = [0.6 + place / 50 + seed / 100 for place in range(3) for seed in (1, 2)]  # without the one that failed
    expected = f"{statistics.fmean(scores):.4f} ± {statistics.stdev(scores):.4f}"
    assert rows["optimizer=SGD"]["val accuracy"] == expected
    assert browser.texts("#table tbody tr:nth-child(2) .state") == ["finished 6", "failed 1"]
    assert rows["optimizer=Adam"]["seeds"] == "6"
    assert rows["optimizer=SGD"]["optimizer"] == "SGD"
    assert rows["optimizer=SGD"]["learning_rate"] == "3 values"
    assert browser.texts("td.best")[:1] == [rows["optimizer=Adam"]["val accuracy"]]
    browser.click("tbody .expand")
    assert len(names(browser)) == 2 + 6


def test_the_curve_of_a_group_is_the_mean_of_its_runs(browser, grid):
    shown(browser, grid)
    choose(browser, "#rows", "by learning_rate")
    browser.click("#clear")
    browser.type("#filter", "learning_rate=0.01")
    browser.click("tbody input")
    assert curves(browser) == [["learning_rate=0.01", "dot", 2], ["learning_rate=0.01", "solid", 2]]
    solid = "one => one.meta === 'curve' && one.line.dash === 'solid'"
    assert browser.run(f"return {FIGURE}.data.find({solid}).y[1]") == pytest.approx(
        statistics.fmean(0.02 + start + seed / 100 for start in (0.6, 0.8) for seed in (1, 2))
    )


def test_a_link_opens_the_grouping_that_was_seen(browser, grid):
    shown(browser, grid)
    choose(browser, "#rows", "by optimizer")
    browser.click("#clear")
    browser.click("tbody tr:nth-child(2) input")
    shown(browser, grid, browser.run("return location.hash"))
    assert list(cells(browser)) == ["optimizer=Adam", "optimizer=SGD"]
    assert browser.texts("tr.picked .name") == ["optimizer=SGD"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("optimizer=adam and learning_rate=0.1", 1),
        ("optimizer=adam learning_rate = 0.1", 1),
        ("learning_rate >= 0.01 and not optimizer=SGD", 2),
        ("optimizer=adam and learning_rate>", 3),  # still being typed
        ("optimizer='no such'", 0),
    ],
)
def test_filters_are_read_as_people_type_them(browser, grid, text, number):
    shown(browser, grid)
    browser.type("#filter", text)
    assert len(names(browser)) == number
    assert browser.texts("#unknown") == [""]


def test_a_column_that_is_none_is_told_and_searched_as_text(browser, grid):
    shown(browser, grid)
    browser.type("#filter", "learning_rte=0.1")
    assert browser.texts("#unknown") == ["No column or hyperparameter is called learning_rte: searched as text."]
    assert names(browser) == []


def test_each_of_many_picked_rows_has_a_color_of_its_own(browser, tmp_path):
    for number in range(40):
        make(tmp_path / f"r{number}", [number / 50], {"width": number})
    shown(browser, report(tmp_path))
    browser.click("#pick")
    colors = browser.run(
        "return [...document.querySelectorAll('tr.picked')].map(row => row.style.getPropertyValue('--color'))"
    )
    assert len(set(colors)) == len(browser.texts("#legend li")) == 40
    parts = [[int(color[place : place + 2], 16) for place in (1, 3, 5)] for color in colors]
    assert (
        min(
            sum(abs(a - b) for a, b in zip(one, other, strict=True))
            for one in parts
            for other in parts
            if one is not other
        )
        > 20
    )
    browser.click("#clear")
    assert browser.texts("#legend li") == []


def test_the_arrows_go_from_row_to_row_and_a_space_picks(browser, grid):
    shown(browser, grid)
    browser.click("#clear")
    browser.run("document.querySelector('#table tbody input').focus()")
    for key in (DOWN, DOWN, UP, SPACE):
        press(browser, key)
    assert browser.texts("tr.picked .name") == names(browser)[1:2]


def test_a_wide_table_is_whole_on_paper(browser, tmp_path):
    for number in range(3):
        params = {f"a_long_hyperparameter_{place}": f"value number {number}" for place in range(40)}
        make(tmp_path / str(number), [number / 3], params)
    shown(browser, report(tmp_path))
    browser.wait("window.Plotly")
    browser.resize(1000, 700)
    browser.command("Emulation.setEmulatedMedia", media="print")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run("return document.documentElement.scrollWidth") <= 1000
    edge = "document.querySelector('#table').getBoundingClientRect().right"
    assert browser.run(f"return {edge}") <= 1000
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run("return document.querySelector('#table').style.zoom") == ""


def test_every_control_and_figure_has_a_name(browser, searched):
    shown(browser, searched)
    wait_for_figures(browser)
    nameless = (
        "return [...document.querySelectorAll('button, input, select, .scroll')].filter(one => "
        "!(one.getAttribute('aria-label') || one.labels?.length || one.textContent.trim())).map(one => one.outerHTML)"
    )
    assert browser.run(nameless) == []
    assert all(in_each_figure(browser, "one.getAttribute('role') === 'img' && one.getAttribute('aria-label')"))
    label = browser.run("return document.querySelector('#curves-figure').getAttribute('aria-label')")
    assert "learning_rate=0.01,seed=* ends at 0.92" in label
