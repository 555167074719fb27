"""Examples that were trained on are never scored as new ones, however the loader draws; honest loaders hear nothing."""

import itertools

import pytest
import torch

import evaluate
import train
from engine.errors import UserError
from tests.support.folders import checkpoint, read

DRAWN = """
import random, time
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset, SubsetRandomSampler, TensorDataset
from engine.data import TensorBatches
from tests.projects.points.data_loader import points

INPUTS, LABELS = (torch.from_numpy(array) for array in points("train"))
EVERYTHING = TensorDataset(INPUTS, LABELS)
SIZES = [120, 40, 40]

class Items(Dataset):
    def __init__(self, inputs=INPUTS, labels=LABELS):
        self.inputs, self.labels = inputs, labels
    def __len__(self):
        return len(self.labels)
    def __getitem__(self, index):
        return self.inputs[index] + 0.01 * torch.randn(2), self.labels[index]

def parts():
    order = torch.randperm(200, generator=torch.Generator().manual_seed({seed}))
    return [part.tolist() for part in order.split([120, 40, 40])]

def loaders():
    return {made}

def fetch_dataloader(types, data_dir, params):
    print("asked for", *types)
    made = loaders()
    if "train" in types and {is_gone}:
        raise FileNotFoundError("train.csv is gone")
    return {{split: made[split] for split in types}}
"""
SPLITS = 'dict(zip(("train", "val", "test"), {}))'
ANEW = {  # how to draw three splits that no seed reproduces
    "by indices": "(DataLoader(Subset(EVERYTHING, part), 20) for part in parts())",
    "by indices, made varied": "(DataLoader(Subset(Items(), part), 20) for part in parts())",
    "by samplers": "(DataLoader(EVERYTHING, 20, sampler=SubsetRandomSampler(part)) for part in parts())",
    "by arrays": "(DataLoader(TensorDataset(INPUTS[part], LABELS[part]), 20) for part in parts())",
    "by rows": "(TensorBatches(INPUTS, LABELS, batch_size=20, rows=part) for part in parts())",
    "by resident arrays": "(TensorBatches(INPUTS[part], LABELS[part], batch_size=20) for part in parts())",
    "by names": "(TensorBatches(INPUTS[part], LABELS[part], batch_size=20, names=part) for part in parts())",
}
EQUAL = "DataLoader(TensorDataset(torch.ones(40, 2), torch.arange(40) % 3), 20)"
HONEST = {  # three splits that are always the same, and what might look as if they were not
    **ANEW,
    "equal examples": f"[{EQUAL} for _ in range(3)]",
    "equal names": "(TensorBatches(INPUTS[p[:9]], LABELS[p[:9]], batch_size=20, names=range(9)) for p in parts())",
    "equal places in other data": "(DataLoader(Subset(Items(INPUTS[part[:9]]), range(9)), 20) for part in parts())",
    "what cannot be told": "(DataLoader(Items(INPUTS[part], LABELS[part]), 20) for part in parts())",
}
names = (f"splits_{number}" for number in itertools.count())


@pytest.fixture
def trained_on(experiment, variant, monkeypatch):
    """Trains on splits: `trained_on("dict(...)", seed="3")`; `seed` is what they are drawn under, as code."""

    def run(made, seed="3", is_gone="False"):
        name = next(names)
        code = DRAWN.format(made=SPLITS.format(made), seed=seed, is_gone=is_gone)
        monkeypatch.syspath_prepend(variant(name, data_loader=code))
        folder = experiment(name, task=name, data_dir="none", num_epochs=1, learning_rate=0.01, device="cpu")
        train.main(["--model_dir", str(folder)])
        return folder

    return run


@pytest.mark.parametrize("kind", ANEW)
@pytest.mark.parametrize("seed", ["time.time_ns()", "torch.Generator().seed()"], ids=["the clock", "no seed"])
def test_a_test_split_that_is_drawn_anew_is_not_scored(trained_on, kind, seed):
    folder = trained_on(ANEW[kind], seed)
    with pytest.raises(UserError, match=r"^test: some of it may have been trained on, as the loader draws train"):
        evaluate.main(["--model_dir", str(folder)])
    assert not (folder / "metrics_test_best.json").exists()


@pytest.mark.parametrize("kind", HONEST)
def test_a_test_split_that_follows_from_a_seed_is_scored(trained_on, kind, capsys):
    folder = trained_on(HONEST[kind])
    capsys.readouterr()
    evaluate.main(["--model_dir", str(folder)])
    assert "loss" in read(folder, "metrics_test_best.json")
    said = capsys.readouterr().out
    assert "trained on" not in said
    assert ("asked for train val" in said) == kind.startswith("equal")  # no other training data are read again


def test_where_the_training_data_are_gone_it_is_said_that_nothing_can_be_told(trained_on, capsys, tmp_path):
    there = f'__import__("pathlib").Path({str(tmp_path / "gone")!r}).exists()'
    folder = trained_on(HONEST["equal examples"], is_gone=there)
    (tmp_path / "gone").touch()
    evaluate.main(["--model_dir", str(folder)])
    assert "test has examples that look like some of train or val; whether they are cannot" in capsys.readouterr().out


def test_a_checkpoint_of_before_sketches_is_scored(trained_on):
    folder = trained_on(ANEW["by rows"])
    content = checkpoint(folder, "best")
    del content["sketches"]
    torch.save(content, folder / "best.pth.tar")
    evaluate.main(["--model_dir", str(folder)])
    assert "loss" in read(folder, "metrics_test_best.json")
