"""`predict.py`: what is new is predicted from the experiment's folder alone, as evaluation predicts it."""

import csv
import io
import json

import pytest

from engine.training import find_sources, read_inputs
from tests.projects.points.data_loader import points as examples_of
from tests.support.folders import contents

READING = """
import torch
from tests.projects.points import data_loader


def fetch_dataloader(types, data_dir, params):
    params.classes = ["top", "left", "right"]
    return data_loader.fetch_dataloader(types, data_dir, params)


def read_input(source, params):
    for number, line in enumerate(open(source), start=1):
        yield f"{source}:{number}", torch.tensor([float(cell) for cell in line.split(",")])
"""


@pytest.fixture
def trained_reader(points, variant, script):
    """A trained experiment whose task reads points from CSV files, and where to find the task."""
    place = variant("mine", data_loader=READING)
    folder = points(task="mine")
    assert script("train", "--model_dir", folder, path=place).status == 0
    return folder, place


@pytest.fixture
def table(tmp_path):
    """The points of test as files of 20 lines each."""
    (tmp_path / "new").mkdir()
    inputs, _ = examples_of("test")
    for number in range(3):
        rows = inputs[20 * number : 20 * number + 20]
        (tmp_path / "new" / f"{number}.csv").write_text("".join(f"{x!r},{y!r}\n" for x, y in rows.tolist()))
    return tmp_path / "new"


def rows_of(path):
    return list(csv.DictReader(path.open()))


def test_predictions_are_those_of_evaluation_and_the_data_are_not_needed(trained_reader, table, script, tmp_path):
    folder, place = trained_reader
    assert script("evaluate", "--model_dir", folder, path=place).status == 0
    before = contents(folder)
    out = tmp_path / "predictions.csv"
    done = script("predict", "--model_dir", folder, table, "--out", out, path=place)
    assert (done.status, done.stdout, done.stderr) == (0, f"{out}: 60 predictions\n", "")
    wanted, given = rows_of(folder / "predictions_test.csv"), rows_of(out)
    assert [row["prediction"] for row in given] == [row["prediction"] for row in wanted]
    probabilities = [[float(row["probability"]) for row in rows] for rows in (given, wanted)]
    assert probabilities[0] == pytest.approx(probabilities[1], rel=1e-5)
    assert given[20]["file"] == f"{table}/1.csv:1"
    assert contents(folder) == before


def test_what_cannot_be_read_is_named_and_the_others_go_on(trained_reader, table, script, tmp_path):
    folder, place = trained_reader
    (table / "0.csv").write_text("1.0,one\n")
    out = tmp_path / "predictions.jsonl"
    done = script("predict", "--model_dir", folder, table, "nosuch.csv", "--out", out, path=place)
    assert done.status == 2
    assert [json.loads(line)["file"] for line in out.read_text().splitlines()][:1] == [f"{table}/1.csv:1"]
    assert len(out.read_text().splitlines()) == 40
    assert done.stderr.splitlines() == [
        f"{table}/0.csv: could not convert string to float: 'one\\n'",
        "nosuch.csv: No such file or directory",
        "error: 2 of 4 inputs could not be read; the others are predicted",
    ]
    done = script("predict", "--model_dir", folder, "nosuch.csv", path=place)
    assert done.stderr.splitlines()[-1] == "error: 1 of 1 input could not be read"


def test_without_a_file_the_first_lines_are_shown(trained_reader, table, script):
    folder, place = trained_reader
    done = script("predict", "--model_dir", folder, table, path=place)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["file", "prediction", "probability"]
    assert len(lines) == 2 + 20 + 1
    assert lines[-1] == "... and 40 more; --out predictions.csv has all"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "there is nothing to predict"),
        (["x.csv", "--out", "table.txt"], "must end in .csv or .jsonl"),
        (["x.csv", "--out", "nowhere/table.csv"], "--out nowhere/table.csv: there is no folder nowhere; make it first"),
        (["--export", "nowhere/model.pt2"], "--export nowhere/model.pt2: there is no folder nowhere; make it first"),
        (["x.csv"], "has no read_input(source, params)"),
    ],
)
def test_what_cannot_be_done_is_one_line(trained, script, tmp_path, words, told):
    done = script("predict", "--model_dir", trained(tmp_path / "experiment"), *words)
    assert done.status == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_sources_are_files_folders_texts_and_lines(tmp_path, monkeypatch):
    (tmp_path / "a" / ".cache").mkdir(parents=True)
    for name in ("b.txt", "a/c.txt", "a/.cache/d.txt"):
        (tmp_path / name).touch()
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\ntwo\n"))
    found = find_sources([str(tmp_path), "a text", "-"])
    assert found == [str(tmp_path / "a" / "c.txt"), str(tmp_path / "b.txt"), "a text", "one", "two"]


def test_examples_of_one_shape_make_a_batch_and_their_order_stays():
    import torch

    def read(source, params):
        yield source, torch.zeros(len(source))

    sources = ["ab", "cd", "ef", "g", "hi"]
    batches = list(read_inputs(sources, read, None, 2, {}))
    assert [batch.names for batch in batches] == [["ab", "cd"], ["ef"], ["g"], ["hi"]]
    assert [tuple(batch.batch.shape) for batch in batches] == [(2, 2), (1, 2), (1, 1), (1, 2)]
