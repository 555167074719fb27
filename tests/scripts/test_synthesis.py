"""The table of results, as it is typed and as it is read."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import types
from functools import partial

import pytest
from scipy import stats

import synthesize_results
from engine.comparison.columns import Column
from engine.comparison.groups import Group, choose_entries, group_entries
from engine.comparison.layout import csv_text, json_text, latex, markdown, terminal_text
from engine.comparison.table import find_column, make_table
from engine.errors import UserError
from engine.experiment.entries import read_entries
from tests.support.folders import contents
from tests.support.made_runs import make_run, make_seeds, write
from tests.support.scripts import ROOT


@pytest.fixture
def table(tmp_path):
    """The table of the experiments in the temporary folder, in the columns of its CSV file: `table()["seed"]`."""

    def make(**options):
        made = make_table(group_entries(read_entries(tmp_path)), **options)
        return dict(column_of(csv_text(made)))

    return make


@pytest.fixture
def synthesize(script):
    """Runs the script in a terminal of some width: `synthesize("--parent_dir", folder)`."""

    def run(*words, width=1000):
        return script("synthesize_results", *words, before=partial(set_columns, width))

    return run


def column_of(text):
    header, *rows = csv.reader(io.StringIO(text))
    return zip(header, zip(*rows, strict=True), strict=True)


def shown(parent, width=None, columns=(), **options):
    return terminal_text(make_table(group_entries(read_entries(parent)), **options), columns, width)


def set_columns(width):
    os.environ["COLUMNS"] = str(width)


# As it is typed


def test_a_table_of_what_differs_is_printed_and_kept(synthesize, trained, tmp_path):
    parent = tmp_path / "some runs"
    first = trained(parent / "first")
    trained(parent / "deep" / "second")
    (first / "run.json").write_text(
        (first / "run.json").read_text().replace('"learning_rate": 0.01', '"learning_rate": 0.5')
    )
    done = synthesize("--parent_dir", parent)
    assert done.status == 0, done.stderr
    header, _, *lines = done.stdout.splitlines()
    assert re.split("  +", header) == [
        *("experiment", "learning_rate", "val accuracy", "val loss", "best epoch", "time", "examples/s", "weights"),
        "state",
    ]
    assert [line.split()[:2] for line in lines[:2]] == [["deep/second", "0.01"], ["first", "0.5"]]
    assert f"--parent_dir '{parent}' --report" in done.stdout
    assert (parent / "results.md").read_text().startswith("| experiment ")
    rows = list(csv.DictReader((parent / "results.csv").open()))
    assert rows[0]["val accuracy"] == rows[1]["val accuracy"]
    assert (
        float(rows[0]["val accuracy"]) == json.loads((first / "metrics_val_best_weights.json").read_text())["accuracy"]
    )


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], "no experiment has been run here; python train.py --model_dir"),
        (["params.json", "search.json"], "nothing has been run here; python search_hyperparams.py --parent_dir"),
    ],
)
def test_a_folder_without_experiments_is_one_line_with_what_to_type(synthesize, tmp_path, files, said):
    for name in files:
        write(tmp_path / "parent", name, {})
    (tmp_path / "parent").mkdir(exist_ok=True)
    done = synthesize("--parent_dir", tmp_path / "parent")
    assert (done.status, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr
    assert sorted(contents(tmp_path / "parent")) == files


def test_what_to_type_can_be_typed_where_names_have_spaces(synthesize, tmp_path):
    (tmp_path / "my runs").mkdir()
    assert f"--model_dir '{tmp_path / 'my runs' / 'first'}' " in synthesize("--parent_dir", tmp_path / "my runs").stderr


def test_a_folder_that_is_not_there(synthesize, tmp_path):
    done = synthesize("--parent_dir", tmp_path / "nowhere")
    assert (done.status, done.stderr.count("\n")) == (2, 1)
    assert "no such folder" in done.stderr


def test_a_parent_may_be_an_experiment_itself(synthesize, tmp_path):
    folder = make_run(tmp_path / "mine")
    done = synthesize("--parent_dir", folder)
    assert re.search(r"^mine +0\.9", done.stdout, re.MULTILINE)
    assert "*" not in done.stdout  # nothing to be best of
    assert f"evaluate.py --model_dir {folder}\n" in done.stdout


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_it_fits_the_terminal(synthesize, tmp_path, width):
    for rate in (0.1, 0.01):
        values = {"learning_rate": rate, "a_long_hyperparameter_name": "x" * 90 + str(rate), "dropout_rate": rate}
        make_seeds(tmp_path, f"learning_rate={rate},dropout_rate={rate}", [0.5, 0.75], params=values)
    make_run(
        tmp_path / ("deep/" * 12 + "run"), status={"reason": "the loss is " + "very " * 40 + "high"}, state="failed"
    )
    done = synthesize("--parent_dir", tmp_path, width=width)
    assert done.status == 0, done.stderr
    lines = done.stdout.split("\nWritten: ")[0].splitlines()
    assert max(map(len, lines)) <= width
    assert "accuracy" in "".join(lines[:2])
    assert ("Range: from the lower" in " ".join(lines)) == ("95 %" in "".join(lines[:2]))  # told where it is shown
    if width <= 80:
        words = " ".join(done.stdout.split())
        assert re.search(r"No room for .*weights.*: see results\.md, results\.csv or, by name, --columns\.", words)
        assert "very very high" in words  # the reason, below the table
    assert "a_long_hyperparameter_name" in (tmp_path / "results.md").read_text()


def test_where_there_is_room_all_is_shown(tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", params={"width": 3})
    natural = shown(tmp_path)
    width = max(map(len, natural.splitlines()[:4]))
    assert shown(tmp_path, width=width).splitlines()[:4] == natural.splitlines()[:4]
    narrower = shown(tmp_path, width=width - 1)
    assert "No room" not in narrower  # headers in two lines do
    assert len(narrower.splitlines()) == len(natural.splitlines()) + 1


@pytest.mark.parametrize("width", range(60, 110, 7))
def test_names_get_back_what_room_is_left(tmp_path, width):
    for end in "12":
        make_run(tmp_path / (30 * "name" + end), params={"width": end})
    header, *lines = shown(tmp_path, width=width).splitlines()
    rows = [line for line in lines if line.startswith("name")]
    assert ["*" in line.split()[0] for line in rows] == [True, True]
    assert max(map(len, [header, *rows])) == width
    assert rows[0].startswith("namename")
    assert rows[0].split()[0].endswith("1")
    assert "* in a name stands for what was left out" in " ".join(lines)


def test_the_hyperparameters_of_a_search_stay_in_a_narrow_terminal(tmp_path):
    for rate, width, decay in ((0.03197, 32, 0.1), (0.0246, 16, 0.0)):
        values = {"learning_rate": rate, "num_channels": width, "weight_decay": decay}
        name = f"learning_rate={rate},num_channels={width},weight_decay={decay}"
        make_seeds(tmp_path, name, [0.5, 0.75, rate], params=values)
    text = shown(tmp_path, width=80)
    assert re.search(r"^\*=0.03197,\*=32,\*=0.1,\* +3 +0\.03197 +0\.1 +32 ", text, re.MULTILINE)
    assert "No room for 95 % interval, vs best" in text  # as there are too few seeds for a verdict


def test_the_columns_that_tell_most_rows_apart_stay_longest(tmp_path):
    for number in range(12):
        values = {"threads": 1 if number else None, "data_dir": "a" if number < 2 else "b", "num_channels": number}
        make_run(tmp_path / f"run{number:02}", [number / 20], params=values)
    headers = shown(tmp_path, width=40).split("run11")[0]
    assert "channels" in headers
    assert "threads" not in headers


def test_a_row_can_be_chosen_by_the_name_that_a_narrow_table_shows(tmp_path):
    for rate in (0.1, 0.15, 0.01):
        for width in (1, 16):
            values = {"learning_rate": rate, "num_channels": width}
            make_seeds(tmp_path / "search", f"learning_rate={rate},num_channels={width}", [rate, 0.5], params=values)
    lines = shown(tmp_path, width=80).splitlines()
    names = [line.split()[0] for line in lines if "=" in line.split(" ")[0]]
    assert len(set(names)) == 6
    chosen = [choose_entries(tmp_path / name) for name in names]
    assert [len(entries) for entries in chosen] == [2] * 6
    assert len({entry.name for entries in chosen for entry in entries}) == 12


def test_letters_that_are_two_places_wide(tmp_path):
    for name in ("漢字" * 20 + "a", "漢字" * 20 + "b", "c"):
        make_run(tmp_path / name, params={"width": name[-1], "kind": "漢"})
    for width in (None, 40, 41, 60, 61):
        lines = shown(tmp_path, width=width).split("\n\n")[0].splitlines()
        places = [sum(2 if "\u2e80" < letter < "\ua000" else 1 for letter in line) for line in lines]
        assert len(set(places[-3:])) == 1, lines
        assert max(places) <= (width or 1000)


def test_only_the_first_hundred_rows_are_printed(synthesize, tmp_path):
    for number in range(103):
        make_run(
            tmp_path / f"{number:03}",
            [number / 1000],
            state="failed" if number == 1 else "finished",
            params={"width": number},
        )
    done = synthesize("--parent_dir", tmp_path)
    assert "3 more rows (2 finished, 1 failed) are in results.md and results.csv." in done.stdout
    assert done.stdout.splitlines()[2].startswith("102 ")
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 104


def test_where_nothing_can_be_written_the_table_is_shown_all_the_same(synthesize, tmp_path):
    make_run(tmp_path / "a")
    (tmp_path / "results.md").mkdir()
    done = synthesize("--parent_dir", tmp_path)
    assert done.status == 0
    assert "a " in done.stdout
    assert re.match("warning: .*results.md: cannot be written", done.stderr)
    assert (tmp_path / "results.csv").is_file()


def test_it_never_imports_torch_and_may_be_cut_short_by_a_pipe(tmp_path):
    for number in range(3):
        make_run(tmp_path / str(number), params={"text": "x" * 60_000, "seed": number, "width": number})
    guard = "import sys, runpy; sys.modules['torch'] = None; sys.argv.pop(0); sys.path.insert(0, '')"
    command = f"{guard}; runpy.run_path('synthesize_results.py', run_name='__main__')"
    words = ["synthesize_results.py", "--parent_dir", str(tmp_path), "--columns", "text", "accuracy"]
    environment = dict(os.environ)  # without the COLUMNS that the readline library may have set for who inherits
    start = [sys.executable, "-c", command, *words]
    process = subprocess.Popen(start, cwd=ROOT, env=environment, stdout=-1, stderr=-1)
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="says how much memory it took")
def test_ten_thousand_folders(tmp_path):
    model = make_run(tmp_path / "model", [0.5] * 20)
    files = [str(model / name) for name in ("run.json", "metrics.jsonl", "status.json")]
    (tmp_path / "all").mkdir()
    for number in range(10_000):
        folder = f"{tmp_path}/all/{number}"
        os.mkdir(folder)
        for file in files:
            os.link(file, f"{folder}/{os.path.basename(file)}")
    code = (
        "import runpy; runpy.run_path('synthesize_results.py', run_name='__main__'); print(*open('/proc/self/status'))"
    )
    words = ["--parent_dir", str(tmp_path / "all")]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "9,900 more rows (9,900 finished)" in done.stdout
    assert int(re.search(r"VmHWM:\s+(\d+) kB", done.stdout)[1]) < 200 * 1024
    assert len((tmp_path / "all" / "results.csv").read_text().splitlines()) == 10_001
    shutil.rmtree(tmp_path / "all")


def test_a_report_is_written_by_the_report(tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "a")
    report = types.ModuleType("engine.report")
    report.write_report = lambda parent, entries: parent / f"report of {len(entries)}.html"
    monkeypatch.setitem(sys.modules, "engine.report", report)
    synthesize_results.main(["--parent_dir", str(tmp_path), "--report"])
    assert str(tmp_path / "report of 1.html") in capsys.readouterr().out


# Rows and columns


def test_only_what_differs_and_matters_is_told(table, tmp_path):
    make_run(tmp_path / "a", params={"learning_rate": 0.1, "betas": [0.9, 0.99], "num_workers": 1, "clip": None})
    make_run(tmp_path / "b", params={"learning_rate": 0.2, "betas": [0.8, 0.99], "num_workers": 2, "batch_size": 32})
    columns = table()
    assert list(columns)[:5] == ["experiment", "learning_rate", "betas", "val accuracy", "val loss"]
    assert columns["betas"] == ("[0.9, 0.99]", "[0.8, 0.99]")


def test_a_hyperparameter_called_like_a_column_of_the_table(table, tmp_path):
    make_run(tmp_path / "a", params={"weights": "imagenet", "loss": "focal"})
    make_run(tmp_path / "b", params={"weights": None, "loss": "plain"})
    columns = table(sort="loss")
    assert columns["params weights"] == ("imagenet", "")
    assert columns["weights"] == ("12345", "12345")
    assert columns["loss"] == ("focal", "plain")


def test_experiments_with_other_metrics_stand_side_by_side(table, tmp_path):
    make_run(tmp_path / "a", [0.5])
    make_run(tmp_path / "b", history=[{"epoch": 1, "val_rmse": 2.5}], monitor="rmse", mode="min")
    make_run(tmp_path / "c", [0.6], test={"bleu": 31.0})
    columns = table()
    assert columns["experiment"] == ("c", "a", "b")
    assert columns["val accuracy"] == ("0.6", "0.5", "")
    assert columns["val rmse"] == ("", "", "2.5")
    assert columns["test bleu"] == ("31.0", "", "")


def test_the_best_of_each_column_is_marked_as_far_as_anybody_knows_what_is_better(tmp_path):
    row = {"epoch": 1, "val_accuracy": 0.5, "val_loss": 0.9, "val_heat": 3.0, "val_wobble": 1.0}
    make_run(tmp_path / "a", history=[row])
    make_run(
        tmp_path / "b", history=[{**row, "val_accuracy": 0.75, "val_loss": 1.5, "val_heat": 2.0, "val_wobble": 2.0}]
    )
    make_run(tmp_path / "c", history=[{**row, "val_heat": 2.0}], monitor="heat", mode="min")
    lines = [line.split() for line in shown(tmp_path).splitlines()]
    assert lines[2][:5] == ["b", "*0.7500", "1.5000", "*2.000", "2.0000"]
    assert lines[3][:5] == ["a", "0.5000", "*0.9000", "3.000", "1.0000"]
    assert lines[4][:5] == ["c", "0.5000", "*0.9000", "*2.000", "1.0000"]
    assert "* before a number: the best of its column." in shown(tmp_path)


def test_the_fastest_is_first_where_rows_are_sorted_by_speed(table, tmp_path):
    for name, epochs in (("slow", 1), ("fast", 3)):
        make_run(tmp_path / name, [0.5] * epochs)
    assert table(sort="examples/s")["experiment"] == ("fast", "slow")


def test_nan_is_told_and_last_and_never_best(table, tmp_path):
    row = {"epoch": 1, "val_accuracy": 0.5, "val_loss": None}
    make_run(tmp_path / "a", history=[row])
    make_run(tmp_path / "b", history=[{**row, "val_loss": 7.0}])
    make_run(tmp_path / "c", history=[{**row, "val_loss": 6.0}])
    columns = table(sort="loss")
    assert columns["experiment"] == ("c", "b", "a")
    assert columns["val loss"] == ("6.0", "7.0", "nan")
    assert "*6.000" in shown(tmp_path)


def test_each_row_says_how_it_went(tmp_path):
    make_run(tmp_path / "a", [0.9, 0.8])
    make_run(tmp_path / "b", [0.8, 0.8], params={"num_epochs": 20}, status={"state": "running"})
    make_run(tmp_path / "c", [0.7], params={"num_epochs": 9}, status={"state": "failed", "reason": "out of memory"})
    make_run(tmp_path / "d", [0.6], params={"num_epochs": 8}, status={"state": "pruned", "reason": "others lead"})
    make_run(tmp_path / "e", [0.5], params={"num_epochs": 7}, status={"state": "running", "updated": 5})
    write(tmp_path / "f", "params.json", {"num_epochs": 6})
    (make_run(tmp_path / "g", [0.4], params={"num_epochs": 5}) / "status.json").write_text("{")
    columns = dict(column_of(csv_text(make_table(group_entries(read_entries(tmp_path))))))
    assert columns["experiment"] == ("a", "b", "c", "d", "e", "g", "f")
    assert columns["state"] == ("finished", "running", "failed", "pruned", "lost", "", "not run")
    assert columns["remark"] == ("", "", "out of memory", "others lead", "", "status.json is damaged", "")
    text = shown(tmp_path)
    assert all(state in text for state in ("running 2/20", "failed 1/9", "pruned 1/8", "lost 1/7", "not run"))


def test_unfinished_ones_without_a_score_come_last_in_the_order_of_their_names(table, tmp_path):
    for name in ("c", "a"):
        write(tmp_path / name, "params.json", {"width": name})
    for name in ("d", "b"):
        make_run(tmp_path / name, [0.5], params={"width": name})
    assert table()["experiment"] == ("b", "d", "a", "c")


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        (None, "cab"),
        ("accuracy", "cab"),
        ("val_accuracy", "cab"),
        ("loss", "cab"),
        ("test accuracy", "bac"),
        ("learning_rate", "bca"),
        ("experiment", "abc"),
        ("Best epoch", "abc"),
    ],
)
def test_rows_are_sorted_by_any_column_the_best_first(table, tmp_path, sort, order):
    make_run(tmp_path / "a", [0.6], params={"learning_rate": 10.0}, test={"accuracy": 0.2})
    make_run(tmp_path / "b", [0.5], params={"learning_rate": 1.0}, test={"accuracy": 0.3})
    make_run(tmp_path / "c", [0.7], params={"learning_rate": 2.0})
    assert "".join(table(sort=sort)["experiment"]) == order


def test_test_scores_never_rank_unless_they_are_asked_to(table, tmp_path):
    for name, loss, accuracy in (("a", 2.0, 0.9), ("b", 1.0, 0.1)):
        make_run(tmp_path / name, history=[{"epoch": 1, "val_loss": loss}], test={"accuracy": accuracy})
        write(tmp_path / name, "metrics_val_best_weights.json", {"loss": loss})
    assert table()["experiment"] == ("b", "a")
    assert table(sort="accuracy")["experiment"] == ("a", "b")


@pytest.mark.parametrize("option", ["--sort", "--columns"])
@pytest.mark.parametrize(
    ("name", "said"),
    [("acuracy", 'no column "acuracy"; did you mean "accuracy"?'), ("xyz", "there are: experiment, val accuracy")],
)
def test_an_unknown_column_is_one_line(synthesize, tmp_path, option, name, said):
    make_run(tmp_path / "a")
    done = synthesize("--parent_dir", tmp_path, option, name)
    assert (done.status, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr


def test_columns_that_are_asked_for_are_those_that_are_shown(synthesize, tmp_path):
    make_run(tmp_path / "a", [0.6], params={"batch_size": 7})
    words = ["--columns", "batch_size,loss", "state", "--parent_dir", tmp_path]
    done = synthesize(*words, width=20)
    assert done.stdout.splitlines()[0].split() == ["experiment", "batch_", "val", "state"]
    done = synthesize(*words, "--format", "csv")
    assert done.stdout == "experiment,batch_size,val loss,state\na,7,0.4,finished\n"


def test_columns_hold_for_json_too(tmp_path):
    make_seeds(tmp_path, "a", [0.25, 0.75], params={"width": [1, 2]})
    table = make_table(group_entries(read_entries(tmp_path)), asked_for=["width"])
    assert json.loads(json_text(table, ["width", "accuracy"])) == [
        {"experiment": "a,seed=*", "width": [1, 2], "val accuracy": 0.5}
    ]


def test_what_is_no_number_and_no_text_is_json_in_csv(table, tmp_path):
    for number, value in enumerate(([0.9, "é"], {"a": None}, True)):
        make_run(tmp_path / f"{number}", [number / 10], params={"betas": value})
    assert table()["betas"] == ("true", '{"a": null}', '[0.9, "é"]')


@pytest.mark.parametrize("name", ["batch_siz", "learnin_rate"])
def test_a_hyperparameter_that_could_be_asked_for_is_a_hint(tmp_path, name):
    make_run(tmp_path / "a")
    with pytest.raises(UserError, match=r'did you mean "(batch_size|learning_rate)"'):
        shown(tmp_path, columns=[name], asked_for=[name])


# Names


NAMES = [
    "a|b",
    "two\nlines",
    "ünï 漢字 🙂",
    "tab\there",
    "with, comma",
    'quo"te',
    "*star*",
    "[bracket]",
    "<script>",
    "$x_1$ & 5%",
    "\udcff",
]


@pytest.fixture
def strange(tmp_path):
    """A table of experiments with names that are hard to print."""
    made = []
    for number, name in enumerate(NAMES):
        try:
            make_run(tmp_path / name, params={"width": f"{name}"[:20] if name != "\udcff" else "", "seed": number})
            made.append(name)
        except (OSError, UnicodeError):  # not every disk takes every name
            continue
    return made, make_table([Group([entry]) for entry in read_entries(tmp_path)])


def test_markdown_stays_a_table_whatever_names_there_are(strange):
    names, table = strange
    lines = markdown(table).split("\n\n")[0].splitlines()
    assert len(lines) == len(names) + 2
    counts = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
    assert counts == {len([column for column in table.columns if any(column.texts)]) + 1}
    assert "a\\|b" in markdown(table)
    assert "\\<script>" in markdown(table)


def test_in_the_terminal_each_row_is_one_line(strange):
    names, table = strange
    lines = terminal_text(table, [], None).split("\n\n")[0].splitlines()
    assert len(lines) == len(names) + 2
    assert any(line.startswith(r"two\nlines") for line in lines)
    terminal_text(table, [], None).encode()


def test_csv_gives_names_back_as_they_are(strange):
    names, table = strange
    assert sorted(row["experiment"] for row in csv.DictReader(io.StringIO(csv_text(table), newline=""))) == sorted(
        names
    )


def test_latex_is_escaped(strange):
    names, table = strange
    text = latex(table)
    assert r"\$x\_1\$ \& 5\%" in text
    assert r"\textless{}script\textgreater{}" in text
    rows = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert len(rows) == len(names)
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {
        text.count("&") and len(re.findall(r"(?<!\\)&", rows[0]))
    }
    assert all(row.endswith(r" \\") for row in rows)
    assert not any(row.startswith(("*", "[")) for row in rows)  # as a part of the line above


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_names_are_printed_and_kept_in_any_terminal(strange, tmp_path, encoding):
    command = [sys.executable, "synthesize_results.py", "--parent_dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    assert "ünï 漢字 🙂" in (tmp_path / "results.csv").read_text(encoding="utf-8")


# Seeds and folds


SEVEN = [0.912, 0.905, 0.921, 0.899, 0.915, 0.908, 0.917]
OTHER = [0.901, 0.899, 0.908, 0.881, 0.911, 0.894, 0.903]
CLOSE = [0.911, 0.906, 0.920, 0.901, 0.912, 0.909, 0.916]


def test_seeds_become_one_row_with_mean_spread_and_interval(table, tmp_path):
    make_seeds(tmp_path, "a", [0.5, 0.75, 1.0], test={"accuracy": 0.25})
    columns = table()
    assert columns["experiment"] == ("a,seed=*",)
    assert columns["seeds"] == ("3",)
    numbers = [float(columns[name][0]) for name in ("val accuracy", "val accuracy std")]
    assert numbers == [0.75, 0.25]
    low, high = stats.t.interval(0.95, 2, loc=0.75, scale=0.25 / 3**0.5)
    assert float(columns["val accuracy low"][0]) == pytest.approx(low)
    assert columns["val accuracy high"] == ("1.0",)  # instead of 1.37, as no accuracy is
    assert high > 1
    assert columns["test accuracy"] == ("0.25",)
    text = shown(tmp_path)
    assert "0.7500 ± 0.2500" in text
    assert f"{low:.4f} to 1.0000, cut" in text
    assert "Cut: at 0 or 1" in text
    assert "±: standard deviation over seeds." in text
    assert "Student's t" in text


def test_seeds_that_all_score_the_same_have_no_interval_and_the_table_says_why(tmp_path):
    make_seeds(tmp_path, "same", [0.5, 0.5, 0.5])
    make_seeds(tmp_path, "spread", [0.25, 0.375, 0.5], params={"width": 2})
    text = shown(tmp_path)
    assert "No interval where all seeds have the same score" in text
    (same,) = (line for line in text.splitlines() if line.startswith("same"))
    (spread,) = (line for line in text.splitlines() if line.startswith("spread"))
    assert " to " not in same
    assert "0.0645 to 0.6855" in spread


def test_without_grouping_each_seed_has_its_row(synthesize, tmp_path):
    make_seeds(tmp_path, "a", [0.5, 0.75])
    done = synthesize("--parent_dir", tmp_path, "--no_group")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0][:3] == ["experiment", "seed", "val"]
    assert [line[:2] for line in lines[2:4]] == [["a,seed=2", "2"], ["a,seed=1", "1"]]
    assert "±" not in done.stdout
    assert "One run per row" in done.stdout


def test_rows_are_held_against_the_best_with_holm_over_all(table, tmp_path):
    for name, scores in {"best": SEVEN, "close": CLOSE, "other": OTHER}.items():
        make_seeds(tmp_path, name, scores, params={"width": name})
    make_seeds(tmp_path, "unpaired", OTHER, first=50, params={"width": "unpaired"})
    make_seeds(tmp_path, "few", OTHER[:5], params={"width": "few"})
    make_seeds(tmp_path, "lucky", [0.999], params={"width": "lucky"})
    make_seeds(tmp_path, "elsewhere", OTHER, params={"width": "elsewhere"}, data={"sha256": "2"})
    columns = table()
    rows = dict(zip(columns["experiment"], zip(columns["vs best"], columns["p"], strict=True), strict=True))
    paired, close = (stats.ttest_rel(SEVEN, scores).pvalue for scores in (OTHER, CLOSE))
    unpaired = stats.ttest_ind(SEVEN, OTHER, equal_var=False).pvalue
    assert rows["lucky,seed=1"] == ("1 seed", "")
    assert rows["best,seed=*"] == ("best", "")
    assert rows["few,seed=*"] == ("too few seeds", "")
    told = [float(rows[f"{name},seed=*"][1]) for name in ("other", "unpaired", "close", "elsewhere")]
    texts = [rows[f"{name},seed=*"][0].split(",")[0] for name in ("other", "unpaired", "close", "elsewhere")]
    assert texts == ["worse", "unclear", "unclear", "worse"]  # nobody knows on what data the best was trained
    assert told == pytest.approx([paired * 4, unpaired * 2, close, paired * 4])


def test_a_row_that_is_better_on_each_shared_seed_is_never_called_worse(table, tmp_path):
    make_seeds(tmp_path, "more", [*OTHER, 0.99, 0.99, 0.99, 0.99], params={"width": 1})
    better = [score + 0.001 + seed / 1e5 for seed, score in enumerate(OTHER)]
    make_seeds(tmp_path, "better", better, params={"width": 2})
    columns = table()
    assert columns["vs best"] == ("best", "better on shared seeds, p < 0.001")
    assert float(columns["p"][1]) == pytest.approx(stats.ttest_rel(OTHER, better).pvalue)
    assert '"Better" where both have the same seeds' in " ".join(shown(tmp_path).split())


def test_rounding_makes_no_row_worse_and_none_better(table, tmp_path):
    make_seeds(tmp_path, "six", [5 / 360] * 6, params={"width": 1})
    make_seeds(tmp_path, "seven", [5 / 360] * 7, first=50, params={"width": 2})
    columns = table()
    assert sorted(columns["vs best"]) == ["best", "unclear, p = 1.00"]
    assert "*0." not in shown(tmp_path)


@pytest.mark.parametrize("state", ["running", "pruned", "failed", "interrupted"])
def test_runs_that_are_not_finished_are_shown_and_never_best(table, tmp_path, state):
    make_seeds(tmp_path, "done", OTHER, params={"width": 1})
    make_seeds(tmp_path, "ahead", SEVEN, params={"width": 2}, state=state)
    make_seeds(tmp_path, "waiting", [], params={"width": 3})
    columns = table()
    assert columns["experiment"][:2] == ("done,seed=*", "ahead,seed=*")
    assert columns["vs best"][:2] == ("best", "not finished")
    text = shown(tmp_path)
    assert re.search(r"\(0\.9110 ± 0\.007\d+\)", text)
    assert "*" not in text.split("---")[0]
    assert "A score in brackets is of runs that are not finished" in text


def test_two_runs_have_a_range_and_no_interval(tmp_path):
    make_seeds(tmp_path, "a", [0.42, 0.62])
    text = shown(tmp_path)
    assert "0.4200 to 0.6200, range" in text
    assert "Range: from the lower to the higher of two seeds" in text
    assert "Student" not in text


def test_a_score_that_is_no_share_has_its_whole_interval(table, tmp_path):
    for seed, value in enumerate((0.1, 0.2, 90.0)):
        make_run(tmp_path / f"{seed}", [], history=[{"epoch": 1, "val_accuracy": value}], params={"seed": seed})
    assert float(table()["val accuracy low"][0]) < 0  # an accuracy in per cent, for all anybody knows


def test_a_seed_that_is_not_a_number_is_left_out_and_told(table, tmp_path):
    rows = [{"epoch": 1, "val_accuracy": 0.5, "val_loss": loss} for loss in (0.25, None, 0.75)]
    for seed, row in enumerate(rows):
        make_run(tmp_path / f"a,seed={seed}", history=[row], params={"seed": seed})
    make_run(tmp_path / "b", history=[rows[1]], params={"width": 3})
    assert table(sort="loss")["val loss"] == ("0.5", "nan")
    assert re.search(r"^a,seed=\* +2 of 3 + +0\.5000 ± 0\.3536 \(n = 2\) ", shown(tmp_path, sort="loss"), re.MULTILINE)


@pytest.mark.parametrize("huge", [1e200, 1e299, 1e999])
def test_no_score_is_too_large_for_the_table(table, tmp_path, huge):
    for seed, loss in enumerate((0.5, 0.7, huge)):
        row = {"epoch": 1, "val_accuracy": 0.5, "val_loss": loss}
        make_run(tmp_path / f"a,seed={seed}", history=[row], params={"seed": seed})
        make_run(tmp_path / f"b{seed}", history=[row], params={"width": seed})
        make_run(tmp_path / f"c{seed}", [0.3, 0.5], params={"depth": seed})
    assert {"0.5", "0.7"} <= set(table()["val loss"])
    assert {"0.5000", "0.7000"} <= set(shown(tmp_path).replace("*", "").split())  # and takes no digits from the others


def test_scores_on_other_data_are_not_compared(table, tmp_path):
    make_seeds(tmp_path, "a", SEVEN, params={"width": 1}, data={"sha256": "1"})
    make_seeds(tmp_path, "b", OTHER, params={"width": 2}, data={"sha256": "2"})
    assert table()["vs best"] == ("best", "other data")
    assert "Caution: not all rows were trained on the same data" in shown(tmp_path)


def test_what_waits_for_its_run_hides_no_difference_of_data(table, tmp_path):
    make_seeds(tmp_path, "a", SEVEN, params={"width": 1}, data={"sha256": "1"})
    folder, *_ = make_seeds(tmp_path, "b", OTHER, params={"width": 2}, data={"sha256": "2"})
    write(tmp_path / "b,seed=0", "params.json", {**json.loads((folder / "params.json").read_text()), "seed": 0})
    assert table()["seeds"] == ("7", "7")
    assert table()["vs best"] == ("best", "other data")


def test_a_change_of_code_is_told(tmp_path):
    make_run(tmp_path / "a", code={"net.py": "1"})
    make_run(tmp_path / "b", code={"net.py": "1"}, params={"width": 1})
    assert "Caution" not in shown(tmp_path)
    make_run(tmp_path / "b", code={"net.py": "2"})
    assert "Caution: the code of the task changed between rows" in shown(tmp_path)
    make_run(tmp_path / "b", code={"other.py": "2"}, params={"task": "other"})
    assert "Caution" not in shown(tmp_path)  # another task has another code


def test_too_few_seeds_are_called_so(table, tmp_path):
    make_seeds(tmp_path, "a", [0.5, 0.6], params={"width": 1})
    make_seeds(tmp_path, "b", [0.7, 0.8], params={"width": 2})
    assert table()["vs best"] == ("best", "too few seeds")
    assert table()["p"] == ("", "")
    for width in (None, 40):  # even where there is no room for the verdicts
        assert "is tested from 6 seeds on." in " ".join(shown(tmp_path, width=width).split())
    assert "Holm" not in shown(tmp_path)


def test_only_finished_runs_count_and_the_row_says_so(tmp_path):
    make_seeds(tmp_path, "a", [0.5, 0.7])
    make_seeds(tmp_path, "a", [0.1], first=3, state="failed", status={"reason": "no memory"})
    text = shown(tmp_path)
    assert "2 of 3" in text
    assert "0.6000 ± 0.1414" in text
    assert "2 finished, 1 failed" in text
    assert "a,seed=3: no memory" in text
    assert "only finished runs with a number count" in text


def test_a_run_with_other_scores_is_a_run_too(table, tmp_path):
    make_seeds(tmp_path, "a", [0.5, 0.7])
    make_run(tmp_path / "b", history=[{"epoch": 1, "val_rmse": 2.5}], monitor="rmse", mode="min")
    make_run(tmp_path / "c", [], state="failed", params={"width": 1})
    assert dict(zip(table()["experiment"], table()["seeds"], strict=True)) == {"a,seed=*": "2", "b": "1", "c": "0"}


def test_a_score_that_not_all_have_says_of_how_many_it_is(tmp_path):
    folders = make_seeds(tmp_path, "a", [0.5, 0.7, 0.6])
    for folder, score in zip(folders[:2], (0.2, 0.4), strict=True):
        write(folder, "metrics_test_best.json", {"accuracy": score})
    assert "0.3000 ± 0.1414 (n = 2)" in shown(tmp_path)


def test_folds_are_called_folds_and_come_with_a_warning(tmp_path):
    for fold in range(3):
        make_run(tmp_path / f"fold={fold}", [0.5 + fold / 10], params={"fold": fold})
    make_run(tmp_path / "other", [0.4], params={"width": 3})
    text = shown(tmp_path)
    assert text.splitlines()[0].split()[:2] == ["experiment", "folds"]
    assert "1 fold" in text
    assert "Nadeau and Bengio" in text
    make_run(tmp_path / "fold=0 again", [0.5], params={"fold": 0, "seed": 1})
    assert shown(tmp_path).splitlines()[0].split()[:2] == ["experiment", "runs"]


def test_the_command_that_tests_the_first_row(synthesize, tmp_path, monkeypatch, capsys):
    make_seeds(tmp_path, "a", [0.5, 0.75])
    done = synthesize("--parent_dir", tmp_path)
    assert f"python evaluate.py --parent_dir '{tmp_path}/a,seed=*'" in done.stdout
    make_run(tmp_path / "b", [0.9], params={"width": 1})
    monkeypatch.chdir(tmp_path.parent)
    synthesize_results.main(["--parent_dir", tmp_path.name])
    assert f"python evaluate.py --model_dir {tmp_path.name}/b\n" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "b")
    make_seeds(tmp_path, "a", [0.5, 0.75], test={"accuracy": 0.5})
    assert "evaluate.py" not in synthesize("--parent_dir", tmp_path).stdout
    make_run(tmp_path / "b", [0.9], params={"width": 1}, state="running")  # to be tested when it has come to its end
    assert "evaluate.py" not in synthesize("--parent_dir", tmp_path).stdout


# Formats


@pytest.mark.parametrize("name", ["table", "markdown", "csv", "json", "latex"])
def test_every_format_is_printed_alone(synthesize, tmp_path, name):
    make_seeds(tmp_path, "a", [0.5, 1 / 3])
    done = synthesize("--parent_dir", tmp_path, "--format", name)
    assert (done.status, done.stderr) == (0, "")
    assert ("Next:" in done.stdout) == (name == "table")
    if name in ("markdown", "csv"):
        assert done.stdout == (tmp_path / f"results.{'md' if name == 'markdown' else 'csv'}").read_text()


def test_json_has_everything_in_full(tmp_path):
    folders = make_seeds(tmp_path, "a", [0.5, 1 / 3], params={"width": [1, 2]})
    make_run(tmp_path / "b", history=[{"epoch": 1, "val_accuracy": 0.25, "val_loss": None}], params={"width": 3})
    a, b = json.loads(json_text(make_table(group_entries(read_entries(tmp_path)))), parse_constant=pytest.fail)
    assert a["experiment"] == "a,seed=*"
    assert a["params"]["width"] == [1, 2]
    assert a["val"]["accuracy"]["mean"] == (0.5 + 1 / 3) / 2
    assert a["val"]["accuracy"]["count"] == 2
    assert a["vs_best"] == "best"
    assert [run["val"]["accuracy"] for run in a["runs"]] == [0.5, 1 / 3]
    assert [run["folder"] for run in a["runs"]] == [str(folder) for folder in folders]
    assert b["val"]["accuracy"] == {
        "count": 1,
        "mean": 0.25,
        "deviation": None,
        "low": None,
        "high": None,
        "ends": None,
    }
    assert b["val"]["loss"]["mean"] is None  # NaN, which strict readers refuse


@pytest.mark.parametrize("name", ["table", "markdown", "csv", "latex"])
def test_columns_for_programs_can_be_asked_for(synthesize, tmp_path, name):
    make_seeds(tmp_path, "a", [0.25, 0.75])
    words = ["--columns", "val accuracy std", "seconds", "--format", name]
    done = synthesize("--parent_dir", tmp_path, *words)
    assert (done.status, done.stderr) == (0, "")
    assert "0.35" in done.stdout
    assert re.search(r"\b2(\.0)?\b", done.stdout)


def test_the_best_is_bold_in_markdown_and_in_latex(tmp_path):
    make_run(tmp_path / "a", [0.6], params={"width": 1})
    make_run(tmp_path / "b", [0.5], params={"width": 2})
    table = make_table(group_entries(read_entries(tmp_path)))
    assert "| **0.6000** " in markdown(table)
    assert "Bold is the best of its column." in markdown(table)
    assert "Bold" not in markdown(make_table([table.groups[0]]))
    text = latex(table)
    assert r"a & 1 & \textbf{0.6000} & \textbf{0.4000} &" in text
    assert r"\begin{tabular}{lrrrrrrrl}" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_latex_can_be_typeset(strange, tmp_path):
    text = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{latex(strange[1])}\end{{document}}"
    (tmp_path / "page.tex").write_text(text, errors="replace")
    assert subprocess.run(["pdflatex", "-interaction=batchmode", "page.tex"], cwd=tmp_path).returncode == 0


def test_no_column_is_found_for_nothing():
    with pytest.raises(UserError, match=r"there are: a$"):
        find_column([Column("a", [])], "zzz")
