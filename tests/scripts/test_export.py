"""`predict.py --export`: one file that runs without this repository, and does what the network does."""

import csv
import importlib.util
import json
import math
import subprocess
import sys

import pytest

from tests.projects.points.data_loader import points as examples_of
from tests.scripts.test_predict import READING

PREPARING = f"{READING}\n\ndef transform_inputs(batch, params):\n    return batch.float() / params.scale\n"
LOADED = """
import csv, json, sys, torch
module = torch.export.load(sys.argv[1]).module()
rows = torch.tensor([[float(cell) for cell in row] for row in csv.reader(open(sys.argv[2]))])
print(json.dumps([module(rows).softmax(1).max(1).values.tolist(), module(rows[:1]).softmax(1).max(1).values.tolist()]))
"""


@pytest.fixture
def trained(points, variant, script):
    """A trained experiment whose task reads and scales points, and where to find the task."""
    place = variant("mine", data_loader=PREPARING)
    folder = points("experiment", task="mine", scale=2.0)
    assert script("train", "--model_dir", folder, path=place).status == 0
    return folder, place


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("".join(f"{x!r},{y!r}\n" for x, y in examples_of("test")[0].tolist()))
    return path


def test_the_file_runs_without_the_repository_and_predicts_the_same(trained, table, script, tmp_path):
    folder, place = trained
    assert script("evaluate", "--model_dir", folder, path=place).status == 0
    done = script("predict", "--model_dir", folder, table, "--export", tmp_path / "model.pt2", path=place)
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{tmp_path / 'model.pt2'}: takes (B, 2) float32; on 8 inputs its outputs are those")
    script("predict", "--model_dir", folder, table, "--out", tmp_path / "predictions.csv", path=place)
    wanted = [float(row["probability"]) for row in csv.DictReader((tmp_path / "predictions.csv").open())]
    words = [sys.executable, "-I", "-c", LOADED, tmp_path / "model.pt2", table]
    loaded = subprocess.run(words, cwd="/", capture_output=True, text=True, check=True)
    together, alone = json.loads(loaded.stdout)
    assert together == pytest.approx(wanted, rel=1e-5)
    assert alone == pytest.approx(wanted[:1], rel=1e-5)


def test_the_card_has_scores_with_their_interval(trained, table, script, tmp_path):
    folder, place = trained
    assert script("evaluate", "--model_dir", folder, path=place).status == 0
    script("predict", "--model_dir", folder, table, "--export", tmp_path / "model.pt2", path=place)
    card = (tmp_path / "model_card.md").read_text()
    (row,) = (line for line in card.splitlines() if line.startswith("| test | accuracy"))
    share, number = float(row.split("|")[3]), 60
    z = 1.959964
    middle = (share + z * z / (2 * number)) / (1 + z * z / number)
    reach = z / (1 + z * z / number) * math.sqrt(share * (1 - share) / number + z * z / (4 * number**2))
    low, high = (float(text) for text in row.split("|")[5].split(" to "))
    assert row.split("|")[4].strip() == "60"
    assert (low, high) == pytest.approx((middle - reach, middle + reach), abs=2e-3)
    for title in ("Intended use", "Training data", "Hyperparameters", "Limits", "Where it comes from"):
        assert f"## {title}\n" in card


@pytest.mark.parametrize(
    ("forward", "lines", "told"),
    [
        ("return super().forward(x) * (2 if x.sum() > 0 else 1)", 5, "torch.export does not follow its forward"),
        ("return super().forward(x)", 1, "name two at least"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_leaves_no_file(
    points, variant, script, tmp_path, forward, lines, told
):
    net = f"class Net(Net):\n    def forward(self, x):\n        {forward}\n"
    place = variant("mine", net=net, data_loader=READING)
    folder = points(task="mine", num_epochs=1)
    assert script("train", "--model_dir", folder, path=place).status == 0
    (tmp_path / "new.csv").write_text("1.0,2.0\n" * lines)
    (tmp_path / "out").mkdir()
    words = ["--model_dir", folder, tmp_path / "new.csv", "--export", tmp_path / "out" / "model.pt2"]
    done = script("predict", *words, path=place)
    assert done.status == 2
    assert told in done.stderr.splitlines()[-1]
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("error", [1.0, 0.01])
def test_a_file_that_does_something_else_than_the_network_is_not_left(points, variant, script, tmp_path, error):
    """As of a network that asks whether it is being exported, or of a fault in what exports it."""
    net = "import torch\nclass Net(Net):\n    def forward(self, x):\n        other = torch.compiler.is_compiling()\n"
    net += f"        return super().forward(x) + ({error} if other else 0.0)\n"
    place = variant("mine", net=net, data_loader=READING)
    folder = points(task="mine", num_epochs=1)
    assert script("train", "--model_dir", folder, path=place).status == 0
    (tmp_path / "new.csv").write_text("1.0,2.0\n0.5,-1.0\n" * 2)
    (tmp_path / "out").mkdir()
    words = ["--model_dir", folder, tmp_path / "new.csv", "--export", tmp_path / "out" / "model.pt2"]
    done = script("predict", *words, path=place)
    assert done.status == 2
    told = "the exported network gives other outputs than the trained one, on a batch of 1"
    assert done.stderr.splitlines()[-1] == f"error: {told}"
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(bool(importlib.util.find_spec("onnxscript")), reason="it is installed")
def test_without_its_packages_onnx_says_what_to_install(trained, table, script, tmp_path):
    folder, place = trained
    done = script("predict", "--model_dir", folder, table, "--export", tmp_path / "model.onnx", path=place)
    assert done.status == 2
    assert "pip install -r requirements-export.txt" in done.stderr


@pytest.mark.skipif(not importlib.util.find_spec("onnxscript"), reason="requirements-export.txt is not installed")
def test_onnxruntime_gives_the_same(trained, table, script, tmp_path):
    folder, place = trained
    done = script("predict", "--model_dir", folder, table, "--export", tmp_path / "model.onnx", path=place)
    assert done.status == 0, done.stderr
    import onnxruntime

    session = onnxruntime.InferenceSession((tmp_path / "model.onnx").read_bytes())
    inputs = examples_of("test")[0]
    (outputs,) = session.run(None, {session.get_inputs()[0].name: inputs})
    script("predict", "--model_dir", folder, table, "--out", tmp_path / "predictions.csv", path=place)
    wanted = [row["prediction"] for row in csv.DictReader((tmp_path / "predictions.csv").open())]
    assert [["top", "left", "right"][index] for index in outputs.argmax(1)] == wanted
