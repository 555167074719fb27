"""What the report of experiments says, before any browser draws it."""

import json
import math
import os
import re
import subprocess
import sys

import pytest

from engine.report import as_script_data
from tests.support.reports import EVIL, PIXEL, column, content_of, make, report, search
from tests.support.scripts import ROOT


def test_a_report_is_one_file_that_may_load_nothing(tmp_path):
    make(tmp_path / "one", [0.5, 0.6])
    path = report(tmp_path)
    assert path == tmp_path / "report.html"
    assert [other.name for other in tmp_path.iterdir() if other.is_file()] == ["report.html"]
    page = path.read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert not re.search(r'(src|href)="(?!#)', page)
    assert path.stat().st_size < 3_000_000


def test_a_report_is_written_without_torch(tmp_path):
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from engine.experiment import read_entries\n"
        "from engine.report import write_report\n"
        "print(write_report(Path(sys.argv[1]), read_entries(Path(sys.argv[1]))).name, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(search(tmp_path))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["report.html", "False"], done.stderr


def test_nothing_in_the_data_can_end_its_script(tmp_path):
    evil = {"</script>": ["<!--", "\u2028", math.nan]}
    text = as_script_data(evil)
    assert text.isascii()
    assert "<" not in text
    assert json.loads(text) == {"</script>": ["<!--", "\u2028", None]}


@pytest.mark.parametrize("name", [b"<b> & more", b"no text \xff"])
def test_the_folder_may_have_any_name(name, tmp_path):
    try:
        parent = tmp_path / os.fsdecode(name)
        make(parent / "one", [0.5])
    except (OSError, UnicodeError):
        pytest.skip("this system has no such names")
    title = re.search("<title>(.*)</title>", report(parent).read_text(encoding="utf-8"))[1]
    assert title.startswith("Experiments in ")
    assert "<" not in title
    assert "&lt;b&gt; &amp; more" in title or "no text" in title


def test_the_same_experiments_give_the_same_page_but_for_the_date(tmp_path):
    search(tmp_path)
    dated = re.compile(rb"Written [-0-9]+ [:0-9]+ [-+0-9]+")
    assert dated.sub(b"", report(tmp_path).read_bytes()) == dated.sub(b"", report(tmp_path).read_bytes())


def test_seeds_are_one_row_with_mean_and_deviation(tmp_path):
    content = content_of(search(tmp_path))
    cell = column(content, "val accuracy")["learning_rate=0.01,seed=*"]
    assert cell["mean"] == pytest.approx(0.92)
    assert cell["deviation"] == pytest.approx(0.01)
    assert (cell["count"], cell["low"] < 0.92 < cell["high"]) == (3, True)
    assert column(content, "n") == {"broken": 1, **{f"learning_rate={rate},seed=*": 3 for rate in (0.001, 0.01, 0.1)}}
    assert column(content, "state")["broken"] == {"failed": 1}
    assert column(content, "seed")["learning_rate=0.01,seed=*"] == "1, 2, 3"
    assert column(content, "learning_rate")["learning_rate=0.01,seed=*"] == 0.01
    assert column(content, "val accuracy", "entries")["learning_rate=0.01,seed=3"]["mean"] == pytest.approx(0.93)
    judged = column(content, "vs best")
    assert judged["learning_rate=0.01,seed=*"] == "best"
    assert judged["learning_rate=0.1,seed=*"] == "too few seeds"
    assert content["best"] == "Best on val: accuracy 0.92 ± 0.01 over 3 seeds, by learning_rate=0.01,seed=*"
    assert content["summary"].startswith("10 experiments in 4 rows: 9 finished, 1 failed. Written 20")


def test_a_seed_without_a_score_is_counted_out_and_told(tmp_path):
    for seed, accuracy in ((1, 0.5), (2, 0.7), (3, math.nan)):
        make(tmp_path / f"seed={seed}", [accuracy], {"seed": seed})
    cell = column(content_of(tmp_path), "val accuracy")["seed=*"]
    assert (cell["mean"], cell["count"], cell["of"]) == (pytest.approx(0.6), 2, 3)


def test_runs_that_are_not_finished_are_no_part_of_the_mean_which_says_of_how_many_it_is(tmp_path):
    make(tmp_path / "seed=1", [0.5], {"seed": 1})
    make(tmp_path / "seed=2", [0.9], {"seed": 2}, state="pruned")
    cell = column(content_of(tmp_path), "val accuracy")["seed=*"]
    assert (cell["mean"], cell["count"], cell["of"]) == (0.5, 1, 2)


def test_folds_are_called_folds(tmp_path):
    for fold in (0, 1):
        make(tmp_path / f"fold={fold}", [0.5], {"fold": fold})
    assert content_of(tmp_path)["best"] == "Best on val: accuracy 0.5 ± 0 over 2 folds, by fold=*"


def test_members_of_a_row_are_its_own(tmp_path):
    content = content_of(search(tmp_path))
    for row in content["groups"]:
        names = [content["entries"][member]["cells"][0] for member in row["members"]]
        start = row["cells"][0].rstrip("*")
        assert [name for name in names if not name.startswith(start)] == []
    assert sorted(member for row in content["groups"] for member in row["members"]) == list(range(10))


def test_members_of_a_row_need_not_stand_side_by_side(tmp_path):
    for name, rate, seed in (("a", 0.1, 1), ("b", 0.2, 1), ("c", 0.1, 2)):
        make(tmp_path / name, [rate], {"learning_rate": rate, "seed": seed})
    content = content_of(tmp_path)
    members = [[content["entries"][place]["cells"][0] for place in row["members"]] for row in content["groups"]]
    assert members == [["a", "c"], ["b"]]
    assert [content["entries"][place]["score"] for row in content["groups"] for place in row["members"]] == [
        0.1,
        0.1,
        0.2,
    ]


def test_the_best_rows_are_picked_first_and_the_best_of_a_column_is_known(tmp_path):
    content = content_of(search(tmp_path))
    names = [content["groups"][place]["cells"][0] for place in content["picked_first"]]
    assert names == [f"learning_rate={rate},seed=*" for rate in (0.01, 0.1, 0.001)]
    best = {one["title"]: (one["best"], one["best_alone"]) for one in content["columns"]}
    assert best["val accuracy"] == (pytest.approx(0.92), pytest.approx(0.93))
    assert best["val loss"] == (pytest.approx(1.08), pytest.approx(1.07))
    assert best["learning_rate"] == (None, None)
    assert content["columns"][content["sort_by"]]["title"] == "val accuracy"


def test_a_score_that_is_better_low_is_ranked_low_first(tmp_path):
    for name, accuracies in (("one", [0.5]), ("two", [0.9]), ("three", [0.7])):
        make(tmp_path / name, accuracies, {"width": len(name)}, monitor="loss", mode="min")
    make(tmp_path / "failed", [], {"width": 6}, state="failed", monitor="loss", mode="min")
    content = content_of(tmp_path)
    assert [content["groups"][place]["cells"][0] for place in content["picked_first"]] == ["two", "three", "one"]
    assert content["best"] == "Best on val: loss 1.1, with one seed, by two"


def test_where_all_are_equal_none_is_the_best(tmp_path):
    make(tmp_path / "one", [0.5])
    make(tmp_path / "two", [0.5], {"width": 2})
    assert {one["best"] for one in content_of(tmp_path)["columns"]} == {None}


def test_curves_are_columns_and_what_is_no_number_is_a_gap(tmp_path):
    folder = make(tmp_path / "one", [0.123456789, 0.5])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "val_accuracy": NaN, "val_loss": "high", "val_new": true, "val_nan": 1e999}\n')
        file.write("[1, 2]\n")
        file.write('{"epoch": 4, "val_acc')
    curves = content_of(tmp_path)["entries"][0]["history"]
    assert curves["epoch"] == [1, 2, 3]
    assert curves["val_accuracy"] == [0.123457, 0.5, None]
    assert curves["val_loss"][2] is None
    assert not {"val_new", "val_nan"} & set(curves)


def test_a_search_has_parallel_coordinates_and_importances(tmp_path):
    (study,) = content_of(search(tmp_path))["studies"]
    assert "9 finished of 10 experiments, by their best val accuracy" in study["sentence"]
    assert study["parallel"]["layout"]["xaxis"]["ticktext"] == ["accuracy", "learning_rate", "seed"]
    (bars,) = study["importance"]["data"]
    shares = dict(zip(bars["y"], bars["x"], strict=True))
    assert shares["learning_rate"] > 0.8 > shares["seed"] >= 0
    assert "seed is not told apart from chance" in study["sentence"]


@pytest.mark.parametrize(("monitor", "mode", "best"), [("accuracy", "max", "0.8"), ("loss", "min", "1.2")])
def test_the_best_trial_is_drawn_on_top(monitor, mode, best, tmp_path):
    for number, accuracy in enumerate((0.6, 0.8, 0.7, 0.5)):
        params = {"seed": 10**number, "learning_rate": float(number)}
        make(tmp_path / str(number), [accuracy], params, monitor=monitor, mode=mode)
    make(tmp_path / "unscored", [])
    (study,) = content_of(tmp_path)["studies"]
    trials = study["parallel"]["data"]
    assert trials[-1]["customdata"][0] == [monitor, best]
    strengths = [trial["opacity"] for trial in trials]
    assert strengths == sorted(strengths)
    assert (strengths[0], strengths[-1]) == (0.15, 0.9)
    texts = [one["text"] for one in study["parallel"]["layout"]["annotations"]]
    assert {"1", "10", "100", "1000"} <= set(texts)  # a seed is a name, no amount


def test_studies_are_made_per_folder_and_only_where_something_varied(tmp_path):
    search(tmp_path / "here")
    for seed in range(5):
        make(tmp_path / "seeds" / str(seed), [0.5 + seed / 10], {"seed": seed})
    for rate in (1.0, 2.0, 3.0):
        make(tmp_path / "few" / str(rate), [0.5], {"learning_rate": rate})
    assert [study["title"] for study in content_of(tmp_path)["studies"]] == ["here"]


def test_importances_are_only_told_where_they_can_be(tmp_path):
    for number in range(8):
        make(tmp_path / "one" / str(number), [0.5 + number / 100], {"learning_rate": float(number + 1)})
        make(tmp_path / "equal" / str(number), [0.5], {"learning_rate": float(number + 1), "width": number % 3})
        if number < 5:
            params = {"learning_rate": float(number + 1), "width": number % 3}
            make(tmp_path / "few" / str(number), [0.5 + number / 100], params)
    studies = {study["title"]: study for study in content_of(tmp_path)["studies"]}
    assert all(study["parallel"]["data"] and study["importance"] is None for study in studies.values())
    assert "nothing to weigh it against" in studies["one"]["sentence"]
    assert "same score" in studies["equal"]["sentence"]
    assert "from 8 finished experiments on" in studies["few"]["sentence"]


def test_hyperparameters_of_all_kinds_can_be_studied(tmp_path):
    values = [None, True, "Adam", [0.9, 0.99], 3, 2**62, 1e-9, EVIL]
    for number, value in enumerate(values):
        params = {"mixed": value, "wide": 10**number, "whole": number, "learning_rate": 0.1 * (number + 1)}
        params |= {"some": number} if number % 2 else {}
        make(tmp_path / str(number), [0.5 + number / 50], params)
    (study,) = content_of(tmp_path)["studies"]
    assert set(study["importance"]["data"][0]["y"]) == {"learning_rate", "mixed", "wide", "whole"}
    assert "some" in study["parallel"]["layout"]["xaxis"]["ticktext"]
    assert "<b>" not in json.dumps(study)


@pytest.mark.parametrize("huge", ["1e999", "1e308", "1" + "0" * 40, "1" + "0" * 400, str(2**60 - 1)])
def test_no_number_is_too_large_for_the_report(huge, tmp_path):
    for number in range(8):
        make(tmp_path / str(number), [0.5 + number / 50], {"width": number, "huge": number})
    run = tmp_path / "7" / "run.json"
    run.write_text(run.read_text().replace('"huge": 7', f'"huge": {huge}'))
    with (tmp_path / "6" / "metrics.jsonl").open("a") as file:
        file.write(f'{{"epoch": 2, "train_loss": {huge}, "seconds": {huge}}}\n')
    (study,) = content_of(tmp_path)["studies"]
    assert set(study["importance"]["data"][0]["y"]) == {"width", "huge"}
    assert report(tmp_path).is_file()


def test_pictures_are_taken_in_the_best_first_as_long_as_there_is_room(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.report.content.MOST_PICTURE_BYTES", 2 * len(PIXEL))
    for name, accuracy in (("good", 0.9), ("better", 0.95), ("worst", 0.1)):
        folder = make(tmp_path / name, [accuracy], {"name": name})
        (folder / "confusion_test.png").write_bytes(PIXEL)
        (folder / "other.png").write_bytes(PIXEL)
    (tmp_path / "better" / "mistakes_val.png").write_bytes(PIXEL)
    content = content_of(tmp_path)
    pictures = {entry["cells"][0]: [one["name"] for one in entry["pictures"]] for entry in content["entries"]}
    assert pictures == {"better": ["confusion on test", "mistakes on val"], "good": [], "worst": []}
    assert content["pictures_left_out"].endswith("so that this page can still be sent: 2 of the pictures.")


def test_one_experiment_alone_is_not_called_the_best_of_its_column(tmp_path):
    make(tmp_path / "one", [0.5])
    content = content_of(tmp_path)
    assert {one["best"] for one in content["columns"]} == {None}
    assert content["best"] == "Best on val: accuracy 0.5, with one seed, by one"


def test_of_no_experiments_at_all_there_is_a_page_as_well(tmp_path):
    content = content_of(tmp_path)
    assert (content["groups"], content["best"]) == ([], "No experiment has a score yet.")
    assert report(tmp_path).is_file()
