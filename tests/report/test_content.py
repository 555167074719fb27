"""What the report of experiments says, before any browser draws it."""

import base64
import gzip
import json
import math
import os
import re
import subprocess
import sys

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from engine.comparison import group_entries, make_table
from engine.experiment import read_entries
from engine.report import as_json, packed
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
    evil = {"</script>": ["<!--", "\u2028", math.nan, "\udcff"]}
    text = packed(as_json(evil))
    assert re.fullmatch("[A-Za-z0-9+/=]+", text)
    assert json.loads(gzip.decompress(base64.b64decode(text))) == {"</script>": ["<!--", "\u2028", None, "\udcff"]}


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


def test_rows_columns_and_words_are_those_of_the_table(tmp_path):
    search(tmp_path)
    make(tmp_path / "ahead", [0.99], {"learning_rate": 5.0}, state="running")
    content = content_of(tmp_path)
    table = make_table(group_entries(read_entries(tmp_path)))
    assert [row["cells"][0] for row in content["groups"]] == [group.name for group in table.groups]
    by_name = {one.name: one for one in table.columns}
    for place, described in enumerate(content["columns"]):
        cells = [row["cells"][place] for row in content["groups"]]
        assert [cell[1] if isinstance(cell, list) else cell for cell in cells] == by_name[described["title"]].texts
    assert {one["title"] for one in content["columns"]} >= {"val accuracy", "95 % interval", "vs best", "learning_rate"}
    best = column(content, "val accuracy")["learning_rate=0.01,seed=*"]
    assert best == [pytest.approx(0.92), "0.9200 ± 0.0100"]
    assert column(content, "seeds")["learning_rate=0.01,seed=*"] == [3, "3"]
    assert column(content, "val accuracy", "entries")["learning_rate=0.01,seed=3"][1] == "0.9300"


def test_what_is_best_is_told_in_one_sentence(tmp_path):
    content = content_of(search(tmp_path))
    assert content["best"] == "Best: val accuracy 0.9200 ± 0.0100 over 3 seeds, by learning_rate=0.01,seed=*"
    assert content["summary"].startswith("10 experiments in 4 rows: 9 finished, 1 failed. Written 20")


@pytest.mark.parametrize("state", ["running", "pruned", "failed"])
def test_what_is_not_finished_is_never_the_best(tmp_path, state):
    make(tmp_path / "ahead", [0.99], {"width": 1}, state=state)
    assert content_of(tmp_path)["best"] == "No experiment is finished yet: none is the best."
    make(tmp_path / "done", [0.5])
    content = content_of(tmp_path)
    assert content["best"] == "Best: val accuracy 0.5000, with one run, by done"
    assert [(row["cells"][0], row["settled"]) for row in content["groups"]] == [("done", True), ("ahead", False)]
    assert column(content, "val accuracy")["ahead"] == [0.99, "(0.9900)"]
    assert [row["best"] for row in content["groups"]] == [[], []]


def test_hyperparameters_are_kept_whole_those_that_all_share_once(tmp_path):
    make(tmp_path / "one", [0.5], {"width": 1, "betas": [0.9, 0.99], "words": ["größe"]})
    make(tmp_path / "two", [0.5], {"width": 2, "betas": [0.9, 0.99], "words": ["größe"]})
    content = content_of(tmp_path)
    assert [entry["params"] for entry in content["entries"]] == [{"width": "1"}, {"width": "2"}]
    assert content["shared_params"]["betas"] == "[0.9, 0.99]"
    assert content["shared_params"]["words"] == '["größe"]'
    assert content["shared_params"]["batch_size"] == "32"  # what runs by default


def test_folds_are_called_folds(tmp_path):
    for fold in (0, 1):
        make(tmp_path / f"fold={fold}", [0.5], {"fold": fold})
    assert content_of(tmp_path)["best"] == "Best: val accuracy 0.5000 ± 0.0000 over 2 folds, by fold=*"


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
    assert members == [["b"], ["a", "c"]]
    assert [content["entries"][place]["score"] for row in content["groups"] for place in row["members"]] == [
        0.2,
        0.1,
        0.1,
    ]


def best_cells(content, rows):
    """The names of the rows that are best, by column."""
    marks = [(place, row["cells"][0]) for row in content[rows] for place in row["best"]]
    return {one["title"]: {name for at, name in marks if at == place} for place, one in enumerate(content["columns"])}


def test_the_best_rows_are_picked_first_and_the_best_of_a_column_is_known(tmp_path):
    content = content_of(search(tmp_path))
    names = [content["groups"][place]["cells"][0] for place in content["picked_first"]]
    assert names == [f"learning_rate={rate},seed=*" for rate in (0.01, 0.1, 0.001)]
    rows, alone = best_cells(content, "groups"), best_cells(content, "entries")
    assert (rows["val accuracy"], alone["val accuracy"]) == (
        {"learning_rate=0.01,seed=*"},
        {"learning_rate=0.01,seed=3"},
    )
    assert (rows["val loss"], alone["val loss"]) == ({"learning_rate=0.01,seed=*"}, {"learning_rate=0.01,seed=3"})
    assert rows["learning_rate"] == set()
    assert content["columns"][content["sort_by"]]["title"] == "val accuracy"


def test_a_score_that_is_better_low_is_ranked_low_first(tmp_path):
    for name, accuracies in (("one", [0.5]), ("two", [0.9]), ("three", [0.7])):
        make(tmp_path / name, accuracies, {"width": len(name)}, monitor="loss", mode="min")
    make(tmp_path / "failed", [], {"width": 6}, state="failed", monitor="loss", mode="min")
    content = content_of(tmp_path)
    assert [row["cells"][0] for row in content["groups"]][1:] == ["three", "one", "failed"]
    assert content["best"] == "Best: val loss 1.100, with one run, by two"


def test_where_all_are_equal_none_is_the_best(tmp_path):
    make(tmp_path / "one", [0.5])
    make(tmp_path / "two", [0.5], {"width": 2})
    assert [row["best"] for row in content_of(tmp_path)["groups"]] == [[], []]


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


def configurations(parent, count=12, seeds=(1, 2)):
    """Configurations whose score depends on the learning rate, a little on the width, and a little on the seed."""
    for number in range(count):
        params = {"learning_rate": 10.0 ** -(number % 4), "width": number % 3}
        for seed in seeds:
            score = 0.9 - 0.1 * (number % 4) + 0.01 * (number % 3) + 0.001 * seed
            name = "learning_rate={learning_rate},width={width}".format(**params)
            make(parent / f"{name},seed={seed}", [score / 2, score], {**params, "seed": seed})
    return parent


def test_a_configuration_is_one_sample_whatever_its_seeds(tmp_path):
    (study,) = content_of(configurations(tmp_path))["studies"]
    assert study["sentence"].startswith("12 configurations (24 experiments), by their val accuracy.")
    (rate, width), trials = study["slices"], study["trials"]
    assert (rate["name"], rate["scale"], width["name"], width["scale"]) == ("learning_rate", "log", "width", "linear")
    assert len(rate["x"]) == 12
    best = trials["names"].index("learning_rate=1.0,width=2,seed=*")
    assert (rate["x"][best], trials["scores"][best]) == (1.0, pytest.approx(0.9215))  # the mean of both seeds
    assert trials["errors"][best] == pytest.approx(0.001 / 2**0.5)
    assert study["parallel"]["layout"]["xaxis"]["ticktext"] == ["accuracy", "learning_rate", "width"]


def test_importances_are_optunas_over_configurations_with_their_uncertainty(tmp_path):
    (study,) = content_of(configurations(tmp_path))["studies"]
    plain = optuna.create_study(direction="maximize")
    space = {"learning_rate": FloatDistribution(1e-3, 1.0, log=True), "width": IntDistribution(0, 2)}
    for slices in zip(*(one["x"] for one in study["slices"]), study["trials"]["scores"], strict=True):
        params = dict(zip(space, slices, strict=False))
        plain.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=slices[-1]))
    expected = get_param_importances(plain, evaluator=FanovaImportanceEvaluator(n_trees=32, seed=0))
    (bars,) = study["importance"]["data"]
    assert dict(zip(bars["y"], bars["x"], strict=True)) == pytest.approx(expected)
    assert all(0 < deviation < 0.5 for deviation in bars["error_x"]["array"])
    assert "±" in study["sentence"]


@pytest.mark.parametrize(
    ("monitor", "mode", "at_two"), [("accuracy", "max", (0.3, 0.6, 0.8)), ("loss", "min", (1.7, 1.4, 1.2))]
)
def test_what_was_given_up_counts_with_what_all_had_at_that_epoch(tmp_path, monkeypatch, monitor, mode, at_two):
    seen = {}

    def record(trials, keys, mode, trees):
        seen.update({trial.name: trial.comparable for trial in trials})
        return dict.fromkeys(keys, 0.5)

    monkeypatch.setattr("engine.report.search._fanova", record)
    for number in range(10):
        params = {"learning_rate": number + 1.0, "width": number % 3, "num_epochs": 4}
        scores = [0.2, 0.3] if number < 2 else [0.8 if number == 9 else 0.2, 0.6, 0.7, 0.9]
        state = "pruned" if number < 2 else "finished"
        make(tmp_path / str(number), scores, params, state=state, monitor=monitor, mode=mode)
    make(tmp_path / "broken", [0.1], {"learning_rate": 50.0}, state="failed", monitor=monitor, mode=mode)
    (study,) = content_of(tmp_path)["studies"]
    assert "10 of 11 configurations (11 experiments), 2 of them given up (hollow)" in study["sentence"]
    assert "scores at epoch 2, which all reached" in study["sentence"]
    assert seen == pytest.approx(
        {"0": at_two[0], "1": at_two[0], "9": at_two[2], **{str(number): at_two[1] for number in range(2, 9)}}
    )
    assert sum(study["trials"]["pruned"]) == 2


def test_the_best_trial_is_drawn_on_top(tmp_path):
    for number, accuracy in enumerate((0.6, 0.8, 0.7, 0.5)):
        make(tmp_path / str(number), [accuracy], {"width": number, "learning_rate": float(number)})
    make(tmp_path / "unscored", [])
    (study,) = content_of(tmp_path)["studies"]
    trials = study["parallel"]["data"]
    assert trials[-1]["customdata"][0] == ["accuracy", "0.8"]
    strengths = [trial["opacity"] for trial in trials]
    assert strengths == sorted(strengths)
    assert (strengths[0], strengths[-1]) == (0.15, 0.9)


def test_studies_are_made_per_folder_and_only_where_something_varied(tmp_path):
    search(tmp_path / "here")
    for seed in range(5):
        make(tmp_path / "seeds" / str(seed), [0.5 + seed / 10], {"seed": seed})
    for rate in (1.0, 2.0):
        make(tmp_path / "few" / str(rate), [0.5], {"learning_rate": rate})
    assert [study["title"] for study in content_of(tmp_path)["studies"]] == ["here"]


def test_importances_are_only_told_where_they_can_be(tmp_path):
    for number in range(10):
        make(tmp_path / "one" / str(number), [0.5 + number / 100], {"learning_rate": float(number + 1)})
        make(tmp_path / "equal" / str(number), [0.5], {"learning_rate": float(number + 1), "width": number % 3})
        if number < 9:
            params = {"learning_rate": float(number + 1), "width": number % 3}
            make(tmp_path / "few" / str(number), [0.5 + number / 100], params)
    studies = {study["title"]: study for study in content_of(tmp_path)["studies"]}
    assert all(study["slices"] and study["importance"] is None for study in studies.values())
    assert "nothing to weigh it against" in studies["one"]["sentence"]
    assert "same score" in studies["equal"]["sentence"]
    assert "from 10 configurations on" in studies["few"]["sentence"]


def test_hyperparameters_of_all_kinds_can_be_studied(tmp_path):
    values = [None, True, "Adam", [0.9, 0.99], 3, 2**62, 1e-9, EVIL, False, 1.5]
    for number, value in enumerate(values):
        params = {"mixed": value, "wide": 10**number, "whole": number, "learning_rate": 0.1 * (number + 1)}
        params |= {"some": number} if number % 2 else {}
        make(tmp_path / str(number), [0.5 + number / 50], params)
    (study,) = content_of(tmp_path)["studies"]
    assert set(study["importance"]["data"][0]["y"]) == {"learning_rate", "mixed", "wide", "whole"}
    scales = {one["name"]: one["scale"] for one in study["slices"]}
    assert scales == {
        "learning_rate": "linear",
        "mixed": "category",
        "wide": "log",
        "whole": "linear",
        "some": "category",
    }
    assert "<b>" not in json.dumps(study)


def test_of_hundreds_of_hyperparameters_the_first_are_shown_and_it_is_said(tmp_path):
    for number in range(4):
        make(tmp_path / str(number), [number / 10], {f"key{place}": number for place in range(200)})
    (study,) = content_of(tmp_path)["studies"]
    assert len(study["slices"]) == 24
    assert "Of 200 hyperparameters 24 are shown." in study["sentence"]
    assert len(study["parallel"]["layout"]["xaxis"]["ticktext"]) == 9


@pytest.mark.parametrize("huge", ["1e999", "1e308", "1" + "0" * 40, "1" + "0" * 400, str(2**60 - 1)])
def test_no_number_is_too_large_for_the_report(huge, tmp_path):
    for number in range(10):
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
    assert [row["best"] for row in content["groups"]] == [[]]
    assert content["best"] == "Best: val accuracy 0.5000, with one run, by one"


def test_of_no_experiments_at_all_there_is_a_page_as_well(tmp_path):
    content = content_of(tmp_path)
    assert (content["groups"], content["best"]) == ([], "No experiment has a score yet.")
    assert report(tmp_path).is_file()


def test_tasks_have_a_table_each_with_a_best_row_of_its_own(tmp_path):
    for name, task, score in (("a", "model", 0.5), ("b", "model", 0.6), ("c", "examples.ner", 0.9)):
        make(tmp_path / name, [score], {"task": task, "width": score})
    content = content_of(tmp_path)
    told = [(table["task"], table["best"].rpartition(" ")[2], len(table["groups"])) for table in content["tables"]]
    assert told == [("model", "b", 2), ("examples.ner", "c", 1)]
    assert [entry["table"] for entry in content["entries"]] == [0, 0, 1]
    members = [member for table in content["tables"] for group in table["groups"] for member in group["members"]]
    assert members == [0, 1, 2]
    assert content["summary"].startswith("3 experiments, of 2 tasks: 3 finished.")


@pytest.mark.parametrize(
    ("monitor", "mode", "best"), [("accuracy", "max", [0.5, 0.8, 0.8]), ("loss", "min", [1.5, 1.2, 1.2])]
)
def test_the_best_so_far_follows_the_order_in_which_runs_ended(tmp_path, monitor, mode, best):
    start = 1_763_632_800  # 2025-11-20T10:00:00+0000
    for name, score, begun, ended in (("late", 0.7, 0, 300), ("first", 0.5, 0, 60), ("second", 0.8, 1, 200)):
        record = {"started": f"2025-11-20T11:0{begun}:00+0100", "monitor": monitor, "mode": mode}
        folder = make(tmp_path / name, [score], {"width": len(name)}, **record)
        status = (folder / "status.json").read_text().replace('"updated": 0', f'"updated": {start + ended}')
        (folder / "status.json").write_text(status)
    (study,) = content_of(tmp_path)["studies"]
    progress = study["progress"]
    assert [study["trials"]["names"][trial] for trial in progress["trials"]] == ["first", "second", "late"]
    assert progress["seconds"] == [60, 200, 300]
    assert progress["best"] == pytest.approx(best)


def test_without_times_nothing_is_told_of_how_a_search_went_on(tmp_path):
    for number in range(3):
        (make(tmp_path / str(number), [number / 3], {"width": number}) / "status.json").unlink()
    (study,) = content_of(tmp_path)["studies"]
    assert study["progress"] is None
