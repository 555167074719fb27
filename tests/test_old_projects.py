"""A project written for the course template of 2018 runs unchanged, and its old habits still serve."""

import json
import logging
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import utils
from tests.support.folders import checkpoint, contents, history, read, same, same_results
from tests.support.scripts import ROOT

PARAMS = {  # as such files were written in 2018
    "learning_rate": 1e-2,
    "batch_size": 16,
    "num_epochs": 3,
    "dropout_rate": 0.3,
    "num_channels": 4,
    "save_summary_steps": 2,
    "num_workers": 0,
}
TASK = "tests.projects.old_vision"


def check_results(folder):
    """What the scripts of 2018 left in a folder, with the keys they gave it."""
    for name in ("best", "last"):
        assert {"epoch", "state_dict", "optim_dict"} <= checkpoint(folder, name).keys()
        assert set(read(folder, f"metrics_val_{name}_weights.json")) == {"accuracy", "loss"}
    assert set(read(folder, "metrics_test_best.json")) == {"accuracy", "loss"}
    assert "accuracy" in (folder / "train.log").read_text()
    assert read(folder, "metrics_val_best_weights.json")["accuracy"] > 0.6  # one in three, by chance
    assert checkpoint(folder)["epoch"] == 3


def test_it_trains_and_evaluates_in_place_of_the_model_folder(tmp_path, squares, script):
    for path in ROOT.glob("*.py"):
        shutil.copy(path, tmp_path)
    shutil.copytree(ROOT / "engine", tmp_path / "engine")
    shutil.copytree(ROOT / "tests" / "projects" / "old_vision", tmp_path / "model")
    folder = tmp_path / "experiments" / "base_model"
    folder.mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps(PARAMS, indent=4))
    words = ["--data_dir", squares, "--model_dir", "experiments/base_model"]
    done = subprocess.run([sys.executable, "train.py", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = script("evaluate", *words, cwd=tmp_path)
    assert done.status == 0, done.stderr
    check_results(folder)


@pytest.fixture
def trained_with(experiment, script, squares):
    """Trains the old project with these params."""

    def train(name, **params):
        folder = experiment(name, task=TASK, **{**PARAMS, **params})
        done = script("train", "--model_dir", folder, "--data_dir", squares)
        assert done.status == 0, done.stderr
        return folder

    return train


def test_the_number_of_workers_does_not_show(trained_with, script):
    alone, helped = trained_with("alone"), trained_with("helped", num_workers=2)
    assert same_results(alone, helped)
    for folder in (alone, helped):
        assert script("evaluate", "--model_dir", folder).status == 0  # the data folder is known from the training
        check_results(folder)
    assert read(alone, "metrics_test_best.json") == read(helped, "metrics_test_best.json")


def test_the_pictures_are_augmented_anew_in_each_epoch(trained_with, squares):
    from engine.data.feed import Feed
    from tests.projects.old_vision.data_loader import fetch_dataloader

    folder = trained_with("any", num_epochs=1)
    params = utils.Params(folder / "params.json")
    params.cuda = False
    feed = Feed(fetch_dataloader(["train"], squares, params)["train"], seed=230)
    first, second = (torch.cat([images for images, _ in feed.epoch(epoch)]) for epoch in (0, 1))
    sums = [sorted((images * 255).long().flatten(1).sum(dim=1).tolist()) for images in (first, second)]
    assert sums[0] == sums[1]  # the same pictures
    corners = [sorted(images[:, 0, 0, 0].tolist()) for images in (first, second)]
    assert corners[0] != corners[1]  # turned and mirrored otherwise


def test_it_can_learn_one_batch_by_heart(trained_with):
    folder = trained_with("by_heart", max_train_batches=1, num_epochs=30, dropout_rate=0.0)
    assert history(folder)[-1]["train_loss"] < 0.2


# Old habits


@pytest.fixture
def params(tmp_path):
    (tmp_path / "params.json").write_text(json.dumps(PARAMS))
    return utils.Params(str(tmp_path / "params.json"))


def test_params_are_attributes_and_a_dict(params):
    assert params.learning_rate == params.dict["learning_rate"] == params.__dict__["learning_rate"] == 0.01
    params.learning_rate = 0.5
    params.dict["dropout_rate"] = 0.9
    assert (params.dict["learning_rate"], params.dropout_rate) == (0.5, 0.9)


def test_params_take_in_another_file_and_are_saved(params, tmp_path):
    (tmp_path / "dataset_params.json").write_text('{"vocab_size": 9, "batch_size": 3}')
    params.update(str(tmp_path / "dataset_params.json"))
    assert (params.vocab_size, params.batch_size, params.num_epochs) == (9, 3, 3)
    params.save(str(tmp_path / "all.json"))
    assert json.loads((tmp_path / "all.json").read_text()) == {**PARAMS, "vocab_size": 9, "batch_size": 3}
    assert utils.Params(str(tmp_path / "all.json")).dict == params.dict


def test_a_running_average():
    average = utils.RunningAverage()
    average.update(2)
    average.update(4)
    assert average() == 3
    assert (average.total, average.steps) == (6, 2)


def test_scores_of_any_kind_are_saved_as_numbers(tmp_path):
    scores = {"accuracy": np.float64(0.5), "loss": torch.tensor(0.25), "count": 3, "f1": np.float32(0.125)}
    utils.save_dict_to_json(scores, str(tmp_path / "scores.json"))
    assert json.loads((tmp_path / "scores.json").read_text()) == {
        "accuracy": 0.5,
        "loss": 0.25,
        "count": 3.0,
        "f1": 0.125,
    }


def test_the_log_is_in_a_file_and_on_the_terminal(tmp_path, capsys):
    level, handlers = logging.getLogger().level, logging.getLogger().handlers[:]
    try:
        utils.set_logger(str(tmp_path / "train.log"))
        logging.info("Starting training...")
        assert "Starting training..." in (tmp_path / "train.log").read_text()
        assert "Starting training..." in "".join(capsys.readouterr())
        utils.set_logger(str(tmp_path / "other.log"))
        logging.info("Once more")
        assert "Once more" in (tmp_path / "other.log").read_text()
        assert "Once more" not in (tmp_path / "train.log").read_text()
    finally:
        for handler in [h for h in logging.getLogger().handlers if h not in handlers]:
            logging.getLogger().removeHandler(handler)
            handler.close()
        logging.getLogger().setLevel(level)


def network():
    model = nn.Linear(2, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_checkpoints_are_saved_and_loaded(tmp_path):
    folder = tmp_path / "new"
    model, optimizer = network()
    state = {"epoch": 4, "state_dict": model.state_dict(), "optim_dict": optimizer.state_dict()}
    utils.save_checkpoint(state, is_best=False, checkpoint=str(folder))
    assert set(contents(folder)) == {"last.pth.tar"}
    utils.save_checkpoint(state, is_best=True, checkpoint=str(folder))
    assert set(contents(folder)) == {"last.pth.tar", "best.pth.tar"}

    other, its_optimizer = network()
    content = utils.load_checkpoint(str(folder / "best.pth.tar"), other, its_optimizer)
    assert content["epoch"] == 4
    assert same(other.state_dict(), model.state_dict())
    assert same(its_optimizer.state_dict(), optimizer.state_dict())
    third, _ = network()
    utils.load_checkpoint(str(folder / "last.pth.tar"), third)
    assert same(third.state_dict(), model.state_dict())


def test_a_checkpoint_that_was_written_in_2018_is_read(tmp_path, experiment, script, squares, trained_with):
    source = trained_with("source", num_epochs=1)
    old = {key: checkpoint(source)[key] for key in ("epoch", "state_dict", "optim_dict")}
    torch.save(old, tmp_path / "old.pth.tar", _use_new_zipfile_serialization=False)
    folder = experiment("warm", task=TASK, **{**PARAMS, "learning_rate": 0, "num_epochs": 1})
    done = script("train", "--model_dir", folder, "--data_dir", squares, "--restore_file", tmp_path / "old.pth.tar")
    assert done.status == 0, done.stderr
    for name, weights in old["state_dict"].items():
        if name.endswith("weight"):
            assert same(checkpoint(folder)["state_dict"][name], weights)
    assert math.isfinite(history(folder)[0]["val_loss"])


# What other old projects do: most of it runs as it is; the rest is one line that says what to change

POINTS = {"task": "old", "data_dir": "none", "learning_rate": 0.01, "num_epochs": 1, "batch_size": 32}
RUNS = {  # net.py
    "a network that is moved to params.device": (
        "class Net(Net):\n    def __init__(self, params):\n        super().__init__(params)\n"
        "        self.to(params.device)\n        assert params.cuda == (params.device.type == 'cuda')"
    ),
    "a network made by a function": "Other = Net\ndef Net(params):\n    return Other(params)",
    "a loss by hand": (
        "from torch.nn.functional import log_softmax\ndef loss_fn(outputs, labels):\n    number = outputs.size()[0]\n"
        "    return -log_softmax(outputs, dim=1)[range(number), labels].sum() / number"
    ),
}
REFUSED = {  # params, net.py, data_loader.py, and what is said
    "a key with another meaning": ({"patience": 0.02}, "", "", '"patience" must be a whole number, not 0.02'),
    "a list of values": ({"learning_rate": [0.1, 0.01]}, "", "", "belong into a search.json"),
    "no data": (
        {"data_dir": "data/nowhere"},
        "",
        "def fetch_dataloader(types, data_dir, params):\n    return open(data_dir + '/train.txt')",
        "--data_dir",
    ),
    "a network of two arguments": (
        {},
        "class Net(Net):\n    def __init__(self, params, vocabulary):\n        super().__init__(params)",
        "",
        "Net is called with (params), and it takes (params, vocabulary)",
    ),
    "a loader of two arguments": (
        {},
        "",
        "def fetch_dataloader(types, data_dir):\n    return {}",
        "fetch_dataloader is called with (types, data_dir, params), and it takes (types, data_dir)",
    ),
    "a loss that is a number": (
        {},
        "def loss_fn(outputs, labels):\n    return nn.functional.cross_entropy(outputs, labels).item()",
        "",
        "a float, not a tensor",
    ),
}


@pytest.mark.parametrize("habit", RUNS)
def test_old_habits_run(experiment, variant, script, habit):
    path = variant("old", net=RUNS[habit])
    (path / "old" / "plot.py").write_bytes("print 'in Python 2, in Latin-1: \xe9'\n".encode("latin-1"))
    done = script("train", "--model_dir", experiment(**POINTS), path=path)
    assert done.status == 0, done.stderr


@pytest.mark.parametrize("habit", REFUSED)
def test_what_cannot_run_is_one_line(experiment, variant, script, habit):
    params, net, data_loader, said = REFUSED[habit]
    path = variant("old", net=net, data_loader=data_loader)
    done = script("train", "--model_dir", experiment(**POINTS | params), path=path)
    assert (done.status, done.stderr.count("\n")) == (2, 1), done.stderr
    assert said in done.stderr
