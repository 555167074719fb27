"""The report, as a person sees it: one file in a real browser, with no network and nothing in it that is not text."""

import json
import math

import pytest

from tests.support.pages import (
    FIGURE,
    FIGURES,
    choose,
    curves,
    in_each_figure,
    names,
    press,
    scroll_to,
    shown,
    wait_for_figures,
)
from tests.support.reports import EVIL, PIXEL, make, report


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """The report of five learning rates, written once."""
    parent = tmp_path_factory.mktemp("rated")
    for place, rate in enumerate((0.1, 0.15, 2, 10)):
        make(parent / f"r{rate}", [0.8 - place / 11], {"learning_rate": rate, "optimizer": "Adam"})
    make(parent / "failing", [0.1], {"learning_rate": 99, "optimizer": "Adam"}, state="failed")
    (parent / "r2" / "params.json").write_text('{"_note": "The good one"}')
    return report(parent)


@pytest.fixture
def page(browser, searched):
    return shown(browser, searched)


def test_the_page_opens_without_network_and_without_errors(page):
    assert page.texts("h1") == ["Experiments in lights"]
    assert len(names(page)) == 5
    assert wait_for_figures(page) == 11
    assert page.log("browser") == []
    assert [url for url in page.requests() if not url.endswith("/report.html")] == []


def test_nothing_can_be_fetched_from_within_the_page(page):
    tried = "return fetch(arguments[0]).then(() => 'fetched', () => 'refused')"
    assert page.run(tried, "http://127.0.0.1:9/") == "refused"
    assert any("Content Security Policy" in line["message"] for line in page.log("browser"))
    page.run(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.foreign = 1'}))"
    )
    assert page.run("return window.foreign") is None
    page.log("browser")


def test_a_click_on_a_heading_sorts_and_another_turns_it_round(page):
    best_first = [f"learning_rate={rate},seed=*" for rate in (0.01, 0.1, 0.001)] + ["looked", "broken"]
    assert names(page) == best_first
    assert page.run("return document.querySelector('th:nth-child(4)').getAttribute('aria-sort')") == "descending"
    page.click("th:nth-child(4) button")
    assert names(page) == [*best_first[-2::-1], "broken"]  # what is not finished comes after what is, either way
    assert page.run("return [...document.querySelectorAll('th')].map(one => one.getAttribute('aria-sort'))")[:5] == [
        *[None] * 3,
        "ascending",
        None,
    ]
    page.click("th:nth-child(1) button")
    assert names(page) == sorted(best_first)
    assert page.run("return document.querySelectorAll('th[aria-sort]').length") == 1


def test_numbers_sort_as_numbers_and_what_is_missing_comes_last_both_ways(browser, tmp_path):
    for width in (10, 9, 100):
        make(tmp_path / f"w{width}", [0.5], {"width": width})
    make(tmp_path / "none", [0.9])
    shown(browser, report(tmp_path))
    place = browser.texts("th button").index("width") + 1
    for expected in (["w9", "w10", "w100", "none"], ["w100", "w10", "w9", "none"]):
        browser.click(f"th:nth-child({place}) button")
        assert names(browser) == expected


def test_typing_filters_the_rows(page):
    page.type("#filter", "FAILED")
    assert names(page) == ["broken"]
    assert page.texts("#count") == ["1 of 5 rows"]
    page.type("#filter", "learning_rate=0.1 finished")
    assert names(page) == ["learning_rate=0.1,seed=*"]
    for text in ("nothing of the kind", "learning.rate", "[", "\\\\"):
        page.type("#filter", text)
        assert names(page) == []
    page.type("#filter", '"seed=*"')
    assert len(names(page)) == 3
    page.type("#filter", " ")
    assert len(names(page)) == 5


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("learning_rate=0.1", {"r0.1"}),  # the whole number, not what begins with it
        ("learning_rate>0.1 learning_rate<=2", {"r0.15", "r2"}),
        ("learning_rate!=0.1", {"r0.15", "r2", "r10", "failing"}),
        ("learning_rate>=2", {"r2", "r10", "failing"}),  # as numbers: 10 is more than 2
        ("not failed", {"r0.1", "r0.15", "r2", "r10"}),
        ("not learning_rate>1 val_accuracy>0.5", {"r0.1", "r0.15"}),
        ("optimizer=adam", {"r0.1", "r0.15", "r2", "r10", "failing"}),  # one that all share, and no capitals
        ("optimizer!=Adam", set()),
        ("accuracy<0.55", {"failing", "r10"}),
        ('"the good one"', {"r2"}),  # a note
    ],
)
def test_filters_compare_columns_and_hyperparameters(browser, rated, text, rows):
    shown(browser, rated)
    browser.type("#filter", text)
    assert set(names(browser)) == rows


def test_columns_can_be_hidden_and_the_address_brings_all_of_it_back(page, browser, searched):
    def table():
        return browser.texts("th button"), names(browser), browser.texts("#sides-content th[scope=col]")

    browser.run("document.querySelector('details.hint').open = true")
    browser.click("#columns label:nth-child(1) input")  # the state
    assert "state" not in browser.texts("th button")
    browser.type("#filter", "seed=2")
    browser.click("th:nth-child(1) button")
    browser.click("tbody tr:nth-child(1) input")
    before = table()
    assert len(before[1]) == 3
    address = browser.run("return location.href")
    browser.ask("POST", "/url", {"url": "about:blank"})
    browser.ask("POST", "/url", {"url": address})
    browser.wait("document.documentElement.dataset.ready")
    assert table() == before
    assert browser.log("browser") == []


def test_picked_rows_stand_side_by_side_what_differs_first(browser, tmp_path):
    for seed in (1, 2):
        make(tmp_path / f"one,seed={seed}", [0.5 + seed / 100], {"width": 8, "text": "x", "seed": seed})
    make(tmp_path / "two", [0.75], {"width": 16, "text": "x", "seed": 1})
    shown(browser, report(tmp_path))
    (first, *lines) = browser.run(
        "return [...document.querySelector('table.sides').rows].map(row => [...row.cells].map(cell => cell.innerText))"
    )
    assert first == ["", "two", "one,seed=*"]
    assert ["val accuracy", "0.7500", "0.5150 ± 0.0071"] in lines
    assert ["width", "16", "8"] in lines
    assert ["seed", "1", "1, 2"] in lines
    assert not browser.texts(".diff")
    assert not any(name == "text" for name, *_ in lines)
    browser.click("#sides-content summary")
    assert any("text\tx" in text for text in browser.texts("#sides-content details"))
    browser.click("#clear")
    assert browser.texts("#sides-content p") == [
        "Pick rows in the table to see their hyperparameters and scores side by side; "
        "of the first two, the code as well."
    ]


def test_long_names_are_short_and_told_apart(browser, tmp_path):
    for rate in (0.1, 0.2):
        make(tmp_path / f"a_very_long_name_of_a_hyperparameter={rate},seed=1", [rate], {"learning_rate": rate})
    shown(browser, report(tmp_path))
    assert names(browser) == ["*=0.2,*", "*=0.1,*"]
    assert browser.run("return document.querySelector('.name').title").startswith("a_very_long_name")


def test_states_and_reasons_are_shown(page):
    assert page.texts("td .state.failed") == ["failed 1/1"]
    assert page.texts("td .reason") == ["UserError: the loss is NaN"]


def test_a_row_of_seeds_unfolds_to_its_members(page):
    page.click("tbody .expand")
    assert names(page)[:5] == [
        "learning_rate=0.01,seed=*",
        *(f"learning_rate=0.01,seed={seed}" for seed in (1, 2, 3)),
        ("learning_rate=0.1,seed=*"),
    ]
    assert page.run("return document.querySelector('.expand').getAttribute('aria-expanded')") == "true"
    page.click("tbody .expand")
    assert len(names(page)) == 5
    choose(page, "#rows", "apart")
    assert len(names(page)) == 11
    assert "seed=3" in names(page)[0]


def test_scores_are_shown_with_their_spread_and_the_best_is_marked(page):
    assert page.texts("td.best")[:1] == ["0.9200 ± 0.0100"]
    assert "0.8952 to 0.9448" in page.texts("td")  # the 95 % interval of 0.91, 0.92 and 0.93
    choose(page, "#rows", "apart")
    assert page.texts("td.best")[:1] == ["0.9300"]


def test_a_click_on_a_row_draws_its_curves_and_another_takes_them_away(page):
    assert {name for name, *_ in curves(page)} == {f"learning_rate={rate},seed=*" for rate in (0.01, 0.1, 0.001)}
    page.click("#clear")
    page.wait("document.querySelector('#curves-figure .note')")
    scroll_to(page, "#experiments")
    page.click("tbody tr:nth-child(4) td:nth-child(2)")
    page.wait("document.querySelector('#curves-figure').data")
    assert curves(page) == [["looked", "dot", 1], ["looked", "solid", 1]]
    scroll_to(page, "#experiments")
    page.click("tbody tr:nth-child(4) td:nth-child(2)")
    page.wait("document.querySelector('#curves-figure .note')")


def test_curves_can_be_of_another_score_of_each_seed_and_logarithmic(page):
    assert len(curves(page)) == 6
    page.click("#train")
    page.wait(f"{FIGURE}.data.length === 9")
    assert {dash for _, dash, _ in curves(page)} == {"solid"}
    choose(page, "#seeds", "lines")
    page.wait(f"{FIGURE}.data.every(line => !line.fill)")
    assert [points for *_, points in curves(page)] == [3] * 9
    page.click("#log-y")
    page.wait(f"{FIGURE}.layout.yaxis.type === 'log'")
    choose(page, "#metric", "loss")
    page.wait(f"{FIGURE}.layout.yaxis.title.text === 'loss'")
    assert page.run(f"return {FIGURE}.data[0].y[2]") == pytest.approx(2 - 0.91)
    choose(page, "#over", "seconds")
    page.wait(f"{FIGURE}.data[0].x[2] === 4.5")
    choose(page, "#metric", "learning_rate")
    page.wait(f"{FIGURE}.data[0].y[2] === 0.01")


def test_scores_of_some_batches_only_are_drawn_as_such_and_said_to_be(browser, tmp_path):
    make(tmp_path / "whole", [0.5, 0.6])
    folder = make(tmp_path / "old", [0.4, 0.5])
    rows = [json.loads(line) | {"sampled": ["train_accuracy"]} for line in (folder / "metrics.jsonl").open()]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = shown(browser, report(tmp_path))
    assert {(name, dash) for name, dash, _ in curves(page)} == {
        *(("whole", dash) for dash in ("dot", "solid")),
        *(("old", dash) for dash in ("longdashdot", "solid")),
    }
    hidden = "document.querySelector('#sampled').hidden"
    assert page.run(f"return {hidden}") is False
    choose(page, "#metric", "loss")
    page.wait(hidden)
    assert {dash for _, dash, _ in curves(page)} == {"dot", "solid"}


def test_a_zoom_stays_while_rows_are_picked_and_goes_with_another_score(page):
    curves(page)
    zoom = f"{FIGURE}._fullLayout.xaxis.range"
    page.run(f"return Plotly.relayout({FIGURE}, {{'xaxis.range': [1.5, 2.5]}})")
    before = page.run(f"return {FIGURE}.data.length")
    page.run("document.querySelector('tbody input').click()")
    page.wait(f"{FIGURE}.data.length < {before}")
    assert page.run(f"return {zoom}") == [1.5, 2.5]
    choose(page, "#metric", "loss")
    page.wait(f"{zoom}[0] < 1.5")


def test_the_mean_of_a_band_is_that_of_the_seeds(page):
    curves(page)
    mean = page.run(f"return {FIGURE}.data.find(line => line.line.dash === 'solid' && line.meta === 'curve')")
    assert mean["y"] == pytest.approx([0.45, 0.8, 0.92])
    assert mean["customdata"][2] == pytest.approx([0.01, 3])
    edges = page.run(f"return {FIGURE}.data.filter(line => line.meta === 'edge').slice(2, 4).map(line => line.y[2])")
    assert edges == pytest.approx([0.91, 0.93])


def test_a_point_of_score_against_time_stands_for_each_experiment(page):
    scroll_to(page, "#time")
    page.wait("document.querySelector('#time-figure').dataset.drawn")
    points = page.run("const {x, y} = document.querySelector('#time-figure').data[0]; return [[...x], [...y]]")
    assert len(points[0]) == 11
    assert max(points[0]) == pytest.approx(4.5)
    page.click("#clear")
    page.run(
        "const node = document.querySelector('#time-figure'); node.emit('plotly_click', {points: [node.data[0]"
        ".customdata].map(keys => ({customdata: keys[0]}))})"
    )
    assert len(page.texts("#provenance-content > details")) == 1


def test_picked_rows_show_their_pictures_and_where_they_come_from(page):
    page.click("#clear")
    page.click("tbody tr:nth-child(4) input")
    assert page.texts("figcaption") == ["looked: confusion on test"]
    assert (
        page.run(
            "const image = document.querySelector('figure img'); return image.decode().then(() => image.naturalWidth)"
        )
        == 1
    )
    page.click("#provenance-content summary")
    told = page.texts("#provenance-content dd")
    assert "a" * 40 in told
    assert any("torch 2.15.0" in text for text in told)
    assert page.texts("#looks td")[:3] == ["2026-11-20 12:00:00+0000", "looked", "test"]


EVILS = ["</script><script>alert(1)</script>", "<!--<script>", EVIL, "{{script}} %{x} ${y}", "\"'>&lt;\u2028"]


def evil_experiment(parent, evil, number):
    """An experiment in which everything that can have a name is called `evil`."""
    folder = make(
        parent / f"{number} {evil.replace('/', '|')}",
        [0.5 + number / 10],
        {evil: evil * number, "seed": number, "__proto__": number},
        git={"commit": evil, "patch": evil, "untracked": {evil: evil}},
        evaluations=[{"split": "test", "checkpoint": evil, "at": evil, "scores": {evil: evil}}],
        versions={evil: evil},
        device=evil,
        command=evil,
        code={evil: evil},
        state=evil if number == 0 else "finished",
        reason=evil,
    )
    row = {"epoch": 1, f"val_{evil}": 0.5, "val_accuracy": 0.5 + number / 10, "seconds": 1.0, "__proto__": 1.0}
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    return folder


def test_whatever_a_name_holds_stays_text(browser, tmp_path):
    folders = [evil_experiment(tmp_path, evil, number) for number, evil in enumerate(EVILS)]
    shown(browser, report(tmp_path))
    assert sorted(names(browser)) == sorted(folder.name for folder in folders)
    assert set(EVILS) <= {title.removeprefix("val ") for title in browser.texts("th button")}
    assert browser.texts(".state:not(.finished)") == [f"{EVILS[0]} 1/1"]
    assert sorted(browser.texts(".reason")) == sorted(" ".join(evil.split()) for evil in EVILS)
    assert len(browser.texts("#looks tbody tr")) == len(EVILS)
    for row in (4, 5):
        browser.click(f"tbody tr:nth-child({row}) input")
    assert wait_for_figures(browser) == 17
    browser.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert sorted(browser.texts("#provenance-content pre")) == sorted([*EVILS, *EVILS])
    assert sorted(browser.texts("#legend li")) == sorted(folder.name for folder in folders)
    labels = " ".join(browser.texts("#hyperparameters .xtick, #hyperparameters .ytick"))
    assert all(start in labels for start in ("<!--<script", "<img src=x", "{{script}} %{x}"))
    made = "document.querySelectorAll('body b, body img, svg a, script').length"
    assert browser.run(f"return {made}") == 5  # the page's own four scripts, and plotly
    assert browser.log("browser") == []
    assert [url for url in browser.requests() if not url.endswith("/report.html")] == []


def test_a_warning_is_in_sight(browser, tmp_path):
    make(tmp_path / "one", [0.5])
    make(tmp_path / "two", [0.6], {"learning_rate": 0.1}, code={"model/net.py": "other"}, data=None)
    shown(browser, report(tmp_path))
    (warning,) = browser.texts(".warning")
    assert warning.startswith("2 versions of the task's code. Compare scores only between rows with the same letter")
    place = browser.texts("th button").index("code") + 1
    assert sorted(browser.texts(f"tbody td:nth-child({place})")) == ["A", "B"]


@pytest.mark.parametrize("kind", ["none", "one", "nan"])
def test_a_page_of_nothing_of_one_experiment_or_of_nan_opens(kind, browser, tmp_path):
    if kind == "one":
        make(tmp_path / "one", [0.5])
    if kind == "nan":
        make(tmp_path / "one", [math.nan, math.nan], {"learning_rate": math.inf}, state="failed")
        (make(tmp_path / "damaged", [0.5]) / "run.json").write_text("{")
    shown(browser, report(tmp_path))
    assert len(names(browser)) == {"none": 0, "one": 1, "nan": 2}[kind]
    wait_for_figures(browser)
    assert "Nothing to show" in browser.texts("#hyperparameters")[0]
    assert browser.log("browser") == []


def test_a_run_that_was_really_trained_is_shown(browser, trained, tmp_path):
    trained(tmp_path / "runs" / "points")
    shown(browser, report(tmp_path / "runs"))
    assert names(browser) == ["points"]
    assert browser.texts("tbody .state") == ["finished"]
    assert [points for *_, points in curves(browser)] == [2, 2]
    assert browser.texts("#best")[0].startswith("Best: val ")
    assert browser.log("browser") == []


def test_numbers_are_shown_as_they_are(browser, tmp_path):
    make(tmp_path / "one", [0.5], {"seed": 20261120, "rate": 0.123456789})
    rows = '{"epoch": 1, "val_accuracy": 0.5, "val_rmse": 26004.1, "seconds": 1, "examples_per_second": 0.25}\n'
    (make(tmp_path / "two", [0.5]) / "metrics.jsonl").write_text(rows)
    shown(browser, report(tmp_path))
    texts = browser.texts("#table td")
    assert {"20261120", "0.1235", "26004", "0.25"} <= set(texts)


def test_curves_without_epochs_or_seconds_are_left_out_and_no_end_to_the_others(browser, tmp_path):
    (make(tmp_path / "one", [0.5]) / "metrics.jsonl").write_text('{"val_accuracy": 0.9}\n{"val_accuracy": 0.8}\n')
    make(tmp_path / "two", [0.5, 0.6], {"learning_rate": 0.1})
    shown(browser, report(tmp_path))
    assert {name for name, *_ in curves(browser)} == {"two"}
    assert browser.log("browser") == []


def test_a_damaged_picture_is_named(browser, tmp_path):
    (make(tmp_path / "one", [0.5]) / "confusion_test.png").write_bytes(PIXEL[:40])
    shown(browser, report(tmp_path))
    browser.wait("document.querySelector('figure .note')")
    assert browser.texts("figure") == ["one: confusion on test\n\nThis file is damaged."]


def test_warnings_fold_away_and_open_to_the_experiments_they_are_about(browser, tmp_path):
    for number in range(6):
        make(
            tmp_path / str(number), [0.5], {"width": number}, code={"model/net.py": str(number)}, device=f"gpu {number}"
        )
    shown(browser, report(tmp_path))
    code, device = browser.texts(".warning")
    assert code == (
        '6 versions of the task\'s code. Compare scores only between rows with the same letter in the column "code".'
    )
    assert device == "6 devices. Times and examples per second do not compare between them."
    browser.click(".warning summary")
    assert len(browser.texts(".warning")[0].splitlines()) == 7
    browser.click("#warnings summary")
    assert browser.texts("#warnings") == ["2 warnings"]


def test_in_the_dark_figures_are_dark_and_on_paper_they_are_not(browser, searched):
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    ink = "getComputedStyle(document.body).color"
    texts = "getComputedStyle(one.querySelector('.xtick text, .annotation-text')).fill"
    try:
        browser.command("Emulation.setEmulatedMedia", features=dark)
        shown(browser, searched)
        wait_for_figures(browser)
        assert set(in_each_figure(browser, texts)) == {"rgb(228, 232, 238)"} == {browser.run(f"return {ink}")}
        assert set(in_each_figure(browser, "one.querySelector('.bg')?.style.fillOpacity ?? '0'")) == {"0"}
        browser.run("dispatchEvent(new Event('beforeprint'))")
        assert set(in_each_figure(browser, texts)) == {"rgb(28, 36, 48)"} == {browser.run(f"return {ink}")}
        assert all(width <= 960 for width in in_each_figure(browser, "one._fullLayout.width"))
        browser.run("dispatchEvent(new Event('afterprint'))")
        browser.wait(f"{FIGURES}.every(one => Math.abs(one._fullLayout.width - one.clientWidth) < 2)")
        assert set(in_each_figure(browser, texts)) == {"rgb(228, 232, 238)"}
    finally:
        browser.command("Emulation.setEmulatedMedia", features=[])


def test_on_paper_nothing_is_cut_off(browser, searched):
    try:
        shown(browser, searched)
        browser.wait("window.Plotly")
        assert browser.run("return document.querySelectorAll('.figure')[3].childElementCount") == 0
        browser.resize(1000, 700)  # pixels of a sheet of Letter on its side
        browser.command("Emulation.setEmulatedMedia", media="print")
        browser.run("dispatchEvent(new Event('beforeprint'))")
        assert in_each_figure(browser, "one.dataset.drawn") == ["yes"] * 11
        assert browser.run("return document.documentElement.scrollWidth") <= 1000
        assert browser.run(
            "return [...document.querySelectorAll('.scroll')].every(one => one.scrollHeight <= one.clientHeight)"
        )
        assert not any(
            browser.run("return [...document.querySelectorAll('nav, .controls, .hint')].map(one => one.offsetHeight)")
        )
    finally:
        browser.command("Emulation.setEmulatedMedia", media="")
        browser.resize(1280, 900)


def test_the_headings_and_rows_can_be_reached_by_keyboard(page):
    page.run("document.querySelector('th:nth-child(1) button').focus()")
    press(page, "\ue007")
    assert page.run("return document.querySelector('th').getAttribute('aria-sort')") == "ascending"
    assert page.run("return [...document.querySelectorAll('tbody input')].every(one => one.getAttribute('aria-label'))")


def test_on_a_phone_only_tables_scroll_sideways(browser, tmp_path):
    for width in (8, 16):
        git = {"commit": "0" * 40, "patch": f"+{'a long line of code ' * 20}{width}", "untracked": {}}
        for seed in (1, 2):
            params = {"a_long_name_of_a_hyperparameter": width, "seed": seed}
            name = f"a_folder/a_long_name_of_a_hyperparameter={width},another_long_name=0.123456789,seed={seed}"
            make(tmp_path / name, [width / 20, width / 17], params, git=git)
    browser.resize(390, 844)
    shown(browser, report(tmp_path))
    browser.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    wait_for_figures(browser)
    assert browser.texts(".diff")
    assert browser.run("return document.documentElement.scrollWidth") <= 390
    lefts = in_each_figure(browser, "one.closest('#multiples') && Math.round(one.getBoundingClientRect().left)")
    assert len({left for left in lefts if left}) == 2  # two beside each other
    choose(browser, "#rows", "apart")
    browser.run("document.querySelector('#table tbody input').click()")
    assert browser.run("return document.documentElement.scrollWidth") <= 390


def test_of_thousands_of_rows_some_are_there_and_the_rest_is_a_click_away(browser, tmp_path):
    for number in range(450):
        make(tmp_path / f"r{number}", [number / 500], {"width": number})
    shown(browser, report(tmp_path))
    assert len(names(browser)) == 200
    assert browser.texts("#count") == ["450 of 450 rows (200 are shown) show 200 more"]
    browser.click("#count button")
    assert len(names(browser)) == 400
    browser.click("#count button")
    assert (len(names(browser)), browser.texts("#count")) == (450, ["450 of 450 rows"])
    browser.type("#filter", "width<3")
    assert names(browser) == ["r2", "r1", "r0"]
    scroll_to(browser, "#time")
    browser.wait("document.querySelector('#time-figure').dataset.drawn")
    faintest = browser.run("return Math.min(...document.querySelector('#time-figure').data[0].marker.opacity)")
    assert faintest < 0.3  # no slab of ink
