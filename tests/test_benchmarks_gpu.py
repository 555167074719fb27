"""`benchmarks/gpu.py` runs anywhere, tiny: parts give rows and fail alone, and a trace is read as one does by hand."""
# ruff: noqa: E402  # what may not be there can only be imported after a look

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

ROOT = Path(__file__).parent.parent
if not (ROOT / "benchmarks" / "gpu.py").is_file() or not (ROOT / "examples" / "cifar10").is_dir():
    pytest.skip("the benchmarks or the example are not there any more", allow_module_level=True)

from benchmarks import gpu, gpu_parts, gpu_record, gpu_runs, gpu_trace
from benchmarks.gpu import PARTS, Row
from engine.randomness import settings_kept

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="parts are ended by signals to their groups")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Ten classes of small pictures, as CIFAR-10 has them."""
    folder = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 2)):
        for name in "abcdefghij":
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.jpg")
    return folder


def run(out, *words):
    """The command; returns what it printed, and the rows of each part in its file."""
    command = [sys.executable, "benchmarks/gpu.py", "--tiny", "--out", out, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((out / "gpu.json").read_text())


# The parts


def test_each_part_has_a_limit_and_something_to_run():
    assert list(gpu_parts.RUN) == list(PARTS)


@pytest.mark.processes
@pytest.mark.parametrize("name", ["machine", "loop", "decode", "transfer", "precisions", "averaging"])
def test_a_part_measures_what_it_names(name, photographs, tmp_path):
    options = gpu_runs.Options(scratch=tmp_path, data=photographs, tiny=True)
    with settings_kept():
        rows = [Row(*row) for row in gpu_parts.RUN[name](options)]
    assert len(rows) >= 3
    assert len({row.what for row in rows}) == len(rows)
    assert all(row.what and row.measured and "nan" not in row.measured for row in rows)


@pytest.mark.processes
def test_where_the_steps_of_a_run_spend_their_time_is_told_by_the_parts_of_the_loop(tmp_path):
    folder = tmp_path / "out"
    _, results = run(folder, "--parts", "profile")
    told = {row["what"] for row in results["profile"]}
    assert {f"{net}: GPU waits in {part}" for net in ("MLP", "convolutions") for part in ("forward", "feed")} <= told
    assert sorted(path.name for path in folder.iterdir()) == ["gpu.json", "gpu.log", "gpu.md"]


def test_training_seconds_leave_validation_out(tmp_path):
    """Epochs of 4 s and 2 s of training, however long they took in all."""
    rows = [{"examples_per_second": 100 / seconds, "seconds": 50} for seconds in (4.0, 2.0)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "status.json").write_text(json.dumps({"step": 20}))
    (tmp_path / "run.json").write_text(json.dumps({"params": {"batch_size": 10}}))
    assert gpu_runs.training_seconds(tmp_path) == pytest.approx((6.0, 4.0))


# The record

PRINTED = """
---------------------------------------------------------------------------------
|  run     |  epoch  |  train_acc  |  val_acc  |  tta_val_acc  |  time_seconds  |
---------------------------------------------------------------------------------
|  warmup  |      0  |     0.1080  |   0.0940  |               |        0.4660  |
|          |   eval  |     0.1080  |   0.0940  |       0.1010  |        3.5380  |
---------------------------------------------------------------------------------
|       0  |      0  |     0.4660  |   0.2610  |               |        0.2110  |
|          |   eval  |     0.9160  |   0.9310  |       0.9380  |        1.6640  |
---------------------------------------------------------------------------------
|       1  |      0  |     0.4560  |   0.3645  |               |        0.2140  |
|          |   eval  |     0.9160  |   0.9320  |       0.9410  |        1.6700  |
---------------------------------------------------------------------------------
Mean: 0.9395    Std: 0.0021
"""


def test_the_record_s_table_is_read_without_its_warm_up():
    assert gpu_record.scores_of_record(PRINTED) == ([0.938, 0.941], [1.664, 1.67])


def test_the_record_gets_the_same_images_and_labels(photographs, tmp_path):
    gpu_record.write_for_record(gpu_runs.Options(scratch=tmp_path, data=photographs), tmp_path)
    for split, count in (("train", 60), ("test", 20)):
        content = torch.load(tmp_path / f"{split}.pt", weights_only=True)
        assert (content["images"].shape, content["classes"]) == ((count, 32, 32, 3), list("abcdefghij"))
        assert content["labels"].tolist() != sorted(content["labels"].tolist())
        given = {
            (int(label), image.numpy().tobytes())
            for image, label in zip(content["images"], content["labels"], strict=True)
        }
        files = sorted((photographs / split).rglob("*.jpg"))
        assert given == {
            ("abcdefghij".index(path.parent.name), np.asarray(Image.open(path)).tobytes()) for path in files
        }


# How a part ends


@pytest.mark.processes
def test_a_part_that_fails_fails_alone_and_says_why(tmp_path):
    printed, results = run(tmp_path / "out", "--parts", "decode,machine")
    assert results["decode"] == [
        {"what": "(the whole part)", "measured": "failed: ValueError: needs --data", "goal": ""}
    ]
    assert [row["what"] for row in results["machine"]][:2] == ["cores", "torch"]
    table = (tmp_path / "out" / "gpu.md").read_text().splitlines()
    assert table[0] == "| part | what | measured | goal |"
    assert len(table) == 2 + sum(map(len, results.values()))
    assert len(printed.splitlines()) == len(table) - 2


HANGING = """
import json, subprocess, sys, time
child = "import filelock, time; filelock.FileLock('lock').acquire(); print('held', flush=True); time.sleep(300)"
subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE).stdout.readline()
open(sys.argv[3], "w").write(json.dumps(["first", "1 s", ""]))
time.sleep(300)
"""


@pytest.mark.processes
def test_a_part_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path, monkeypatch):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "gpu_parts.py").write_text(HANGING)
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    rows = gpu.run_part("speed", {}, tmp_path, limit=5.0)
    assert rows == [Row("first", "1 s"), Row("(the whole part)", "stopped after 5 s")]
    with FileLock(tmp_path / "lock", timeout=10):  # which whoever lives on would hold
        pass


def test_what_has_no_time_left_says_so(tmp_path):
    _, results = run(tmp_path / "out", "--parts", "machine,speed", "--minutes", "0")
    assert {name: rows[-1]["measured"] for name, rows in results.items()} == dict.fromkeys(results, "no time left")


def test_a_part_that_there_is_not_is_refused(tmp_path):
    command = [sys.executable, "benchmarks/gpu.py", "--out", tmp_path, "--parts", "loop,lop"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, "there is no lop" in done.stderr) == (2, True)


# The trace


def event(cat, name, start, end):
    return {"ph": "X", "cat": cat, "name": name, "ts": start, "dur": end - start}


def test_a_gpu_waits_in_the_innermost_part_that_is_under_way(tmp_path):
    """Kernels run in 10 to 20, 15 to 30 and 50 to 60; the program is in forward until 40, within it in feed from 32."""
    events = [
        event("user_annotation", "part: forward", 0, 40),
        event("user_annotation", "part: feed", 32, 36),
        event("user_annotation", "somebody else's", 0, 100),
        event("gpu_user_annotation", "part: forward", 0, 100),
        event("cpu_op", "aten::mm", 0, 100),
        event("kernel", "product", 10, 20),
        event("gpu_memcpy", "copy", 15, 30),
        event("kernel", "product", 50, 60),
        {"ph": "M", "name": "process_name"},
    ]
    (tmp_path / "trace.json").write_text(json.dumps({"traceEvents": events}))
    told = gpu_trace.read_trace(tmp_path / "trace.json")
    assert (told.microseconds, told.busy, told.kernels) == (60, 30, 3)
    assert told.waited == {"forward": 10 + 2 + 4, "feed": 4, gpu_trace.BETWEEN: 10}
    assert told.computed == {"forward": 36, "feed": 4, gpu_trace.BETWEEN: 20}
    assert told.longest == [("product", 20), ("copy", 15)]
