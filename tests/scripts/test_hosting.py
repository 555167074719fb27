"""Scripts called as functions, from a notebook or a program: what they return, and that its process stays as it was."""

import importlib
import json
import logging
import os
import random
import signal
import sys

import numpy as np
import pytest
import torch

import train
import utils
from engine.errors import UserError
from tests.projects.points.data_loader import points as points_of
from tests.projects.points.net import Net
from tests.support.folders import checkpoint, read, same_results


def process_state():
    """What a script may set in a process, as Python, NumPy and PyTorch themselves say it."""
    logger = logging.getLogger()
    return {
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "logs": (logger.handlers[:], logger.level, logging.root.manager.disable),
        "threads": (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()),
        "seeds": (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()),
        "process": (dict(os.environ), sys.argv, sys.excepthook, os.getcwd()),
    }


@pytest.fixture
def two_threads():
    """What no script sets by itself here."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


CALLS = [
    ("train", ["--model_dir", "{new}"]),
    ("train", ["--model_dir", "{new}", "--set", "a=1"]),  # an error
    ("evaluate", ["--model_dir", "{old}"]),
    ("evaluate", ["--parent_dir", "{parent}"]),
    ("synthesize_results", ["--parent_dir", "{parent}"]),
]


@pytest.mark.parametrize(("name", "words"), CALLS, ids=[f"{name} {words[-1]}" for name, words in CALLS])
def test_a_call_leaves_the_process_as_it_was(name, words, points, trained, tmp_path, two_threads):
    new, old = points("new", threads=1, deterministic=True), trained(tmp_path / "parent" / "old")
    script = importlib.import_module(name)
    before = process_state()
    try:
        script.main([word.format(new=new, old=old, parent=old.parent) for word in words])
    except UserError:
        assert "a=1" in words
    assert process_state() == before


def test_a_call_with_an_older_log_of_ours_leaves_it_open(points, tmp_path):
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        utils.set_logger(str(tmp_path / "mine.log"))
        train.main(["--model_dir", str(points())])
        logging.info("afterwards")
    finally:
        for handler in root.handlers[len(before) :]:
            handler.close()
        root.handlers[:] = before
        root.setLevel(level)
    assert (tmp_path / "mine.log").read_text().split(maxsplit=3)[-1] == "afterwards\n"


def test_a_log_of_the_notebook_does_not_say_each_line_twice(points, capsys):
    theirs = logging.StreamHandler()  # on stderr, as Colab has one
    logging.getLogger().addHandler(theirs)
    try:
        train.main(["--model_dir", str(points())])
        logging.warning("theirs again")
    finally:
        logging.getLogger().removeHandler(theirs)
    out, err = capsys.readouterr()
    assert out.count("Epoch 1/2") == 1
    assert err == "theirs again\n"


def test_calls_return_what_stands_in_the_files(points, tmp_path):
    folder = points("parent/one")
    scores = train.main(["--model_dir", str(folder)])
    assert scores == read(folder, "metrics_val_best_weights.json")
    assert train.main(["--model_dir", str(folder)]) == scores  # finished
    evaluate = importlib.import_module("evaluate")
    tested = evaluate.main(["--model_dir", str(folder)])
    assert tested == read(folder, "metrics_test_best.json")
    assert evaluate.main(["--parent_dir", str(folder.parent)]) == {"one": tested}
    (row,) = importlib.import_module("synthesize_results").main(["--parent_dir", str(folder.parent)])
    assert row["val"]["accuracy"]["mean"] == scores["accuracy"]
    assert read(folder, "run.json")["command"] == f"train.py --model_dir {folder}"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupted_cell_raises_keyboard_interrupt_and_goes_on_when_it_is_run_again(points):
    whole, cut = points("whole", num_epochs=3), points("cut", num_epochs=3)
    train.main(["--model_dir", str(whole)])
    before = process_state()
    with pytest.raises(KeyboardInterrupt):
        train.main(["--model_dir", str(cut)], on_epoch=lambda *_: os.kill(os.getpid(), signal.SIGINT))
    assert process_state() == before
    assert read(cut, "status.json")["state"] == "interrupted"
    train.main(["--model_dir", str(cut)])
    assert same_results(whole, cut)


def test_a_loaded_network_is_the_one_that_was_scored(points, variant, monkeypatch):
    code = "def fetch_dataloader(types, data_dir, params, fetch=fetch_dataloader):\n"
    code += "    params.width = 7\n    return fetch(types, data_dir, params)\n"
    net = "class Net(Net):\n    def __init__(self, params):\n        super().__init__(params)\n"
    net += "        self.insert(2, nn.Dropout(0.5))\n        self.width = params.width\n"
    monkeypatch.syspath_prepend(variant("dropping", net=net, data_loader=code))
    folder = points(task="dropping", threads=1)
    train.main(["--model_dir", str(folder)])
    before = process_state()
    loaded, params = utils.load_experiment(folder)
    assert process_state() == before
    assert (params.width, loaded.width, loaded.training) == (7, 7, False)
    weights = checkpoint(folder, "best")["state_dict"]
    plain = Net(params)
    plain.load_state_dict({name.replace("3.", "2."): value for name, value in weights.items()})
    inputs, labels = points_of("val")
    with torch.no_grad():
        outputs = loaded(torch.from_numpy(inputs))
        assert torch.equal(outputs, plain(torch.from_numpy(inputs)))
    right = np.mean(outputs.argmax(dim=1).numpy() == labels)
    assert right == pytest.approx(read(folder, "metrics_val_best_weights.json")["accuracy"])


def test_history_and_results_are_what_the_files_say(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)  # as where it is not installed
    folder = trained(tmp_path / "parent" / "old")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert utils.history(folder) == lines
    (row,) = utils.results(tmp_path / "parent")
    assert (row["experiment"], row["state"], row["learning_rate"], row["batch_size"]) == ("old", "finished", 0.01, 32)
    best = read(folder, "metrics_val_best_weights.json")
    assert {name: row[f"val_{name}"] for name in best} == best
    for function in (utils.history, utils.results):
        with pytest.raises(UserError, match="no such folder"):
            function(tmp_path / "absent")


def test_a_hyperparameter_that_is_called_like_a_fact_stays_beside_it(points, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    folder = points("parent/one", seconds=99)
    (row,) = utils.results(folder.parent)
    assert (row["seconds"], row["params.seconds"]) == (None, 99)


def test_with_pandas_they_are_frames(trained, tmp_path):
    pandas = pytest.importorskip("pandas")
    folder = trained(tmp_path / "parent" / "old")
    frame = utils.history(folder)
    assert isinstance(frame, pandas.DataFrame)
    assert frame["epoch"].tolist() == [1, 2]
    assert utils.results(tmp_path / "parent")["val_loss"].dtype == float
