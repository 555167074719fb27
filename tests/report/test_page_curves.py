"""The curves of the page: all scores, smoothing, scales, bands, and how a search went on."""

import pytest

from tests.support.pages import FIGURE, choose, curves, scroll_to, shown, wait_for_figures
from tests.support.reports import make, report

SOLID = "line => line.meta === 'curve' && line.line.dash === 'solid'"


def test_all_scores_are_small_multiples_and_a_click_makes_one_large(browser, searched):
    shown(browser, searched)
    wait_for_figures(browser)
    scores = browser.texts("#multiples button")
    assert scores[0] == "accuracy"
    assert set(scores) == {"accuracy", "loss", "learning_rate", "examples_per_second"}
    place = scores.index("examples_per_second")
    drawn = browser.run(
        f"return document.querySelectorAll('#multiples .figure')[{place}].data.map(line => line.y.at(-1))"
    )
    assert set(drawn) == {900}
    browser.click(f"#multiples .multiple:nth-child({scores.index('loss') + 1}) button")
    browser.wait(f"{FIGURE}.layout.yaxis.title.text === 'loss'")
    assert browser.texts("#multiples button[aria-pressed=true]") == ["loss"]


def test_smoothing_is_the_moving_average_with_what_was_smoothed_behind_it(browser, tmp_path):
    scores = [0.1, 0.9, 0.2, 0.8, 0.5]
    make(tmp_path / "one", scores)
    shown(browser, report(tmp_path))
    curves(browser)
    choose(browser, "#smoothing", 0.6)
    browser.wait(f"{FIGURE}.data.length === 4")
    smoothed = browser.run(f"return {FIGURE}.data.find({SOLID}).y")
    for place, value in enumerate(smoothed):
        weights = [0.6 ** (place - one) for one in range(place + 1)]
        mean = sum(weight * score for weight, score in zip(weights, scores, strict=False)) / sum(weights)
        assert value == pytest.approx(mean)
    raw = browser.run(f"return {FIGURE}.data.find(line => line.meta === 'raw' && line.line.dash === 'solid')")
    assert raw["y"] == scores
    assert raw["opacity"] < 0.5
    assert browser.texts("#smoothed") == ["0.6"]
    shown(browser, tmp_path / "report.html", browser.run("return location.hash"))
    assert browser.run("return document.querySelector('#smoothing').value") == "0.6"


@pytest.mark.parametrize("losses", [(0.31, 0.22, 0.041), (3e-7, 2e-3, 5.0), (0.91, 0.5, 0.42)])
def test_the_numbers_of_a_logarithmic_axis_are_read_in_full(browser, tmp_path, losses):
    make(tmp_path / "one", [2 - loss for loss in losses])
    shown(browser, report(tmp_path))
    choose(browser, "#metric", "loss")
    browser.click("#train")
    browser.click("#log-y")
    curves(browser)
    browser.wait(f"{FIGURE}.layout.yaxis.type === 'log'")
    ticks = browser.run(
        f"return [...{FIGURE}.querySelectorAll('.ytick text')].map(one => one.textContent).filter(Boolean)"
    )
    numbers = [float(text.replace("\u2212", "-")) for text in ticks]
    assert 2 <= len(numbers) <= 12
    assert numbers == sorted(numbers)
    places = browser.run(f"return {FIGURE}._fullLayout.yaxis._vals.filter(one => one.text).map(one => 10 ** one.x)")
    assert numbers == pytest.approx(places, rel=0.01)


def test_a_zoom_survives_a_click_on_a_row_and_smoothing(browser, searched):
    shown(browser, searched)
    curves(browser)
    browser.run(f"return Plotly.relayout({FIGURE}, {{'xaxis.range': [1.5, 2.5]}})")
    browser.run("document.querySelector('#table tbody tr:nth-child(4)').click()")
    browser.wait("document.querySelectorAll('#legend li').length === 4")
    choose(browser, "#smoothing", 0.5)
    browser.wait(f"{FIGURE}.data.some(line => line.meta === 'raw')")
    assert browser.run(f"return {FIGURE}._fullLayout.xaxis.range") == [1.5, 2.5]


def test_hundreds_of_seeds_as_lines_are_no_slab_of_ink_and_it_is_said(browser, tmp_path):
    for seed in range(130):
        make(tmp_path / f"seed={seed}", [0.5, 0.6], {"seed": seed})
    shown(browser, report(tmp_path))
    assert browser.run("return document.querySelector('#drawn').hidden")
    choose(browser, "#seeds", "lines")
    lines = curves(browser)
    assert len(lines) == 2 * 120
    assert browser.run(f"return Math.max(...{FIGURE}.data.map(line => line.opacity))") < 0.2
    assert browser.texts("#drawn") == ["Of 130 runs 120 are drawn; their mean is of all."]


def test_thinned_curves_keep_their_ends_and_best_and_their_mean(browser, tmp_path, monkeypatch):
    monkeypatch.setattr("engine.report.curves.MOST_EPOCHS", 20)
    for seed in (1, 2):
        scores = [place / 200 for place in range(100)]
        scores[30 + seed] = 0.99
        make(tmp_path / f"seed={seed}", scores, {"seed": seed})
    shown(browser, report(tmp_path))
    curves(browser)
    assert (
        browser.texts("#drawn")[0]
        == "Curves are drawn through some 20 of up to 100 epochs; their ends, best and worst stay."
    )
    mean = browser.run(f"return {FIGURE}.data.find({SOLID})")
    at = dict(zip(mean["x"], mean["y"], strict=True))
    assert (at[1], at[100]) == pytest.approx((0, 99 / 200))
    assert (max(at), min(at)) == (100, 1)
    assert {n for _, n in mean["customdata"]} == {2}  # where only one of them has kept its best epoch, too
    plain = {epoch: value for epoch, value in at.items() if epoch > 45}
    assert plain == pytest.approx({epoch: (epoch - 1) / 200 for epoch in plain})  # on the line between what is kept
    choose(browser, "#seeds", "lines")
    browser.wait(f"{FIGURE}.data.filter(line => line.meta === 'curve').length === 4")
    assert browser.run(f"return {FIGURE}.data.filter({SOLID}).map(line => Math.max(...line.y))") == [0.99, 0.99]


def test_a_search_tells_how_it_went_on(browser, tmp_path):
    """Started a minute after one another; the third was given up, the last to end is no better than the second."""
    start = 1_763_632_800  # 2025-11-20T10:00:00+0000
    for place, (score, state) in enumerate([(0.5, "finished"), (0.8, "finished"), (0.9, "pruned"), (0.7, "finished")]):
        folder = make(
            tmp_path / str(place), [score], {"width": place}, state=state, started=f"2025-11-20T10:0{place}:00+0000"
        )
        status = (folder / "status.json").read_text().replace('"updated": 0', f'"updated": {start + 60 * place + 120}')
        (folder / "status.json").write_text(status)
    shown(browser, report(tmp_path))
    scroll_to(browser, ".halves")
    halves = "[...document.querySelectorAll('.halves .figure')]"
    browser.wait(f"{halves}.every(one => one.dataset.drawn)")
    lines = "one.data.map(({x, y}) => [x, y])"
    told = browser.run(f"return {halves}.map(one => [one.layout.xaxis.title.text, {lines}])")
    (trials, over_trials), (minutes, over_time) = told
    assert (trials, minutes) == ("configurations that have ended", "minutes since the first run began")
    assert over_trials == [[[1, 2, 4], [0.5, 0.8, 0.7]], [[3], [0.9]], [[1, 2, 3, 4], [0.5, 0.8, 0.8, 0.8]]]
    assert over_time[2] == [[2, 3, 4, 5], [0.5, 0.8, 0.8, 0.8]]
