"""Streams that share themselves out among the processes: each example is trained once, and none waits for another."""

import functools
import itertools
import os
import signal

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.projects.ragged.data_loader import points
from tests.projects.ragged.net import Net
from tests.support import faults, together
from tests.support.folders import checkpoint, history, read, same_results

pytestmark = pytest.mark.processes

LOADER = """
import os

import torch
from torch.utils.data import DataLoader, IterableDataset

from tests.projects.ragged.data_loader import points

RANK, COUNT = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))


def own(items):
    cut = len(items) * 5 // 8
    return items if COUNT == 1 else items[:cut] if RANK else items[cut:]  # the first is the first to end


class Shard(IterableDataset):
    is_sharded = True

    def __init__(self, split, shuffle):
        self.examples, self.shuffle = list(zip(*points(split), strict=True)), shuffle

    def __iter__(self):
        order = torch.randperm(len(self.examples)) if self.shuffle else range(len(self.examples))
        for index in own(order):
            yield self.examples[index]


class Remembering:
    is_sharded = True

    def __init__(self, split, size):
        self.split, self.size, self.done = split, size, 0

    def __iter__(self):
        inputs, labels = (own(part).split(self.size) for part in points(self.split))
        for batch in list(zip(inputs, labels, strict=True))[self.done :]:
            self.done += 1
            yield batch
        self.done = 0

    def state_dict(self):
        return {"done": self.done}

    def load_state_dict(self, state):
        self.done = state["done"]


def fetch_dataloader(types, data_dir, params):
    size = params.batch_size // COUNT
    if params.loader == "remembering":
        return {split: Remembering(split, size) for split in types}
    return {split: DataLoader(Shard(split, params.shuffle and split == "train"), size) for split in types}
"""
PARAMS = {"task": "mine", "data_dir": "none", "batch_size": 8, "max_train_batches": 100, "num_epochs": 3}
PARAMS |= {"optimizer": "SGD", "momentum": 0.9, "weight_decay": 0.01, "learning_rate": 0.02, "loader": "stream"}


@pytest.fixture
def sharded(experiment, variant, tmp_path):
    """`sharded(...)` is an experiment, which `sharded.run(folder)` trains in two processes."""
    path = variant("mine", "from tests.projects.ragged.net import *", LOADER)

    def make(name="experiment", /, **params):
        return experiment(name, **PARAMS | {"shuffle": False} | params)

    def run(folder, script="train", **options):
        return together.fork(script, "--model_dir", folder, output=tmp_path, path=path, **options)

    def change(old, new):
        file = path / "mine" / "data_loader.py"
        assert file.read_text().count(old) == 1
        file.write_text(file.read_text().replace(old, new))

    make.run, make.path, make.change = run, path, change
    return make


def plain_weights(epochs):
    """What the steps come to if each takes the next four examples of either part, as long as it has some."""
    torch.manual_seed(230)
    model = Net(None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=0.01)
    inputs, labels = points("train")
    for _ in range(epochs):
        for one, other in itertools.zip_longest(torch.arange(30).split(4), torch.arange(30, 49).split(4)):
            rows = one if other is None else torch.cat([one, other])
            optimizer.zero_grad()
            cross_entropy(model(inputs[rows]), labels[rows]).backward()
            optimizer.step()
    return model.state_dict()


@pytest.mark.parametrize("loader", ["stream", "remembering"])
def test_each_example_is_trained_once_though_shards_are_of_other_lengths(sharded, script, loader):
    folder = sharded(loader=loader)
    ends = sharded.run(folder)
    assert [end.status for end in ends] == [0, 0], ends
    content = checkpoint(folder)
    assert content["step"] == 3 * 8
    torch.testing.assert_close(dict(content["state_dict"]), dict(plain_weights(3)), rtol=0, atol=1e-6)
    sharded.run(folder, "evaluate")
    scores = read(folder, "metrics_test_best.json")
    assert script("evaluate", "--model_dir", folder, path=sharded.path).status == 0
    assert scores == pytest.approx(read(folder, "metrics_test_best.json"), abs=1e-5)
    assert [look["examples"] for look in read(folder, "run.json")["evaluations"]] == [23, 23]


def test_what_is_not_added_up_is_that_of_a_process_with_a_batch(sharded):
    folder = sharded(norm="plain")
    assert [end.status for end in sharded.run(folder)] == [0, 0]
    assert checkpoint(folder)["state_dict"]["layers.1.num_batches_tracked"] == 3 * 8


def stop():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("params", [{"shuffle": True, "accumulate": 3}, {"loader": "remembering"}], ids=str)
def test_a_run_that_is_stopped_goes_on_to_the_same_bits(sharded, params):
    folder, undisturbed = sharded(**params), sharded("undisturbed", **params)
    fault = {1: functools.partial(faults.act_at_batch, 11, stop)}
    assert [end.status for end in sharded.run(folder, faults=fault)] == [128 + signal.SIGTERM] * 2
    for count in (1, 3):
        (line,) = [end.stderr for end in sharded.run(folder, count=count) if end.stderr]
        assert "were among 2 processes when the run began" in line
        assert line.count("\n") == 1
    for place in (folder, undisturbed):
        assert [end.status for end in sharded.run(place)] == [0, 0]
    assert same_results(folder, undisturbed)
    assert history(folder)[-1]["val_loss"] == history(undisturbed)[-1]["val_loss"]


def test_shards_that_are_the_same_are_told(sharded):
    sharded.change("if RANK else items[cut:]", "")
    folder = sharded(num_epochs=1)
    assert [end.status for end in sharded.run(folder)] == [0, 0]
    assert "the first batches of the 2 processes are the same" in (folder / "train.log").read_text()


def test_it_is_for_streams(sharded):
    sharded.change('Shard(split, params.shuffle and split == "train")', "Mapped([points(split)])")
    sharded.change("class Remembering", "class Mapped(list):\n    is_sharded = True\n\n\nclass Remembering")
    ends = sharded.run(sharded())
    assert sum("is_sharded is for streams" in end.stderr for end in ends) == 1
