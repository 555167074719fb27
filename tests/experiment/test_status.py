"""`status.json` as somebody else, or a full disk, may have left it: nothing is stuck or ends in a traceback."""

import json
import shutil
import time

import pytest

from engine.errors import DiskError, UserError
from engine.experiment import Experiment, Occupied, plan_training, read_entry
from engine.experiment.status import Status
from engine.training.tracking import Board
from tests.support.made_runs import make_run

HALF = [
    "",
    "{",
    "[1, 2]",
    '{"state": "running"}',
    '{"state": "running", "host": 7, "updated": "now", "pid": []}',
    '{"state": 3, "epoch": "many", "seconds": null}',
    '{"state": "running", "host": "elsewhere", "updated": 1e300}',
    '{"state": "running", "host": "elsewhere", "updated": ' + "9" * 400 + "}",
]


@pytest.mark.parametrize("text", HALF, ids=range(len(HALF)))
def test_every_reader_goes_on(tmp_path, text):
    folder = make_run(tmp_path / "run", params={"data_dir": "none"})
    for name in ("run.json", "metrics.jsonl"):
        (folder / name).unlink()
    (folder / "status.json").write_text(text)
    assert Status(folder).shown() in (None, "lost", "running", "interrupted")
    assert read_entry(folder).state in (None, "lost", "running", "interrupted")
    assert plan_training(folder).stage == "new"
    try:
        with Status(folder).held():
            Status(folder).write("running", epoch=1)
    except Occupied:
        assert "1e300" in text or "999" in text  # heard of lately, from elsewhere


@pytest.mark.parametrize("what", ["a file", "a link to nothing", "a file above it"])
def test_what_is_in_the_way_of_a_new_experiment_is_one_line(tmp_path, what):
    place = tmp_path / "new"
    if what == "a link to nothing":
        place.symlink_to(tmp_path / "nowhere")
    else:
        place.write_text("mine")
    folder = place / "below" if what == "a file above it" else place
    with pytest.raises(DiskError, match=rf"{folder}: no folder can be made here \((File exists|Not a directory)\)"):
        Experiment(folder).write_params({"seed": 1})


def test_tensorboard_does_not_make_an_experiment_anew(tmp_path):
    folder = make_run(tmp_path / "run")
    board = Board(folder / "tensorboard", [])
    shutil.rmtree(folder)  # as may happen while TensorBoard is being imported
    with pytest.raises(UserError, match="run: is gone"):
        board.add_epoch({"epoch": 1, "learning_rate": 0.1})
    assert not folder.exists()


def test_a_folder_that_is_gone_is_not_made_anew(tmp_path):
    folder = make_run(tmp_path / "run")
    status = Status(folder)
    with status.held():
        status.write("running", epoch=1)
        folder.rename(tmp_path / "moved")
        status.write("running", epoch=2)
    assert not folder.exists()
    said = json.loads((tmp_path / "moved" / "status.json").read_text())
    assert (said["state"], said["epoch"]) == ("running", 1)
    assert said["updated"] <= time.time()
