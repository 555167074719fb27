"""Each check tells the fault it is for: a project with just that fault is told, and not by an error of our own."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Subset, TensorDataset

from engine.check.examination import CHECKS, examine, judge
from tests.check.cases import (
    COLLECTION,
    DIGITS,
    HEALTHY,
    REGRESSION,
    STUDENTS,
    changed,
    corners,
    digits,
    faulty,
    mlp,
    sums,
)

BY_NAME = {check.__name__.replace("_", " "): check for check in CHECKS}
TOLD = ("failed", "warned")


def built(change):
    """A network for the corners, changed after it was made."""

    def build(params):
        model = mlp(4, 3)(params)
        change(model)
        return model

    return build


class Wrapped(nn.Module):
    """A network whose forward is a function of (layers, points)."""

    def __init__(self, forward, outputs=3):
        super().__init__()
        self.layers, self.unused, self.run = mlp(4, outputs)(None), nn.Linear(1, 1), forward

    def forward(self, points):
        return self.run(self.layers, points)


def without_unused(forward, outputs=3):
    def build(params):
        model = Wrapped(forward, outputs)
        del model.unused
        return model

    return build


def by_hand(outputs, labels):
    return -functional.log_softmax(outputs, 1)[range(len(labels)), labels].mean()


def leaking(model, batch, params):
    points, labels = batch
    outputs = model(points) + 5 * functional.one_hot(labels, 3)
    return functional.cross_entropy(outputs, labels), outputs, labels


def f1(outputs, labels):
    return f1_score(labels, outputs.argmax(axis=1), average="macro", zero_division=0)


def pairs_all(outputs, labels):
    return np.mean(np.abs(outputs - labels))


def sorted_by_class(split):
    """Val was cut from the front of a file sorted by class, and has no third one."""
    inputs, labels = corners(split)
    return (inputs, labels) if split == "train" else (inputs[labels < 2], labels[labels < 2])


def mostly_first(split):
    inputs, labels = corners(split)
    return inputs, torch.where(torch.arange(len(labels)) % 20 == 0, labels, 0)


def near_copies(split):
    """Noisy pictures; half of val are pictures of train, taken again."""
    generator = torch.Generator().manual_seed({"train": 0, "val": 1, "test": 2}[split])
    pictures, labels = torch.randn(60, 1, 16, 16, generator=generator), torch.arange(60) % 3
    if split == "val":
        again = near_copies("train")[0][:30]
        pictures = torch.cat([pictures[:30], again + 0.02 * torch.randn(again.shape, generator=generator)])
    return pictures, labels


class Slow(TensorDataset):
    """A data set that takes a millisecond for each example."""

    def __getitem__(self, index):
        time.sleep(0.001)
        return super().__getitem__(index)


squeezed = changed(sums, labels=lambda y: y.squeeze(1))

FAULTS = [
    faulty(HEALTHY, "a network for other inputs", "batch passes", net=mlp(5, 3)),
    faulty(
        HEALTHY,
        "a column of NaN",
        "numbers are finite",
        data=changed(corners, inputs=lambda x: torch.cat([x[:, :3], x[:, 3:] * torch.nan], 1)),
    ),
    faulty(
        HEALTHY,
        "a constant column",
        "columns vary",
        data=changed(corners, inputs=lambda x: torch.cat([x[:, :3], x[:, 3:] * 0], 1)),
    ),
    faulty(
        REGRESSION,
        "(B, 1) against (B,)",
        "loss takes shapes as meant",
        data=squeezed,
        loss_fn=lambda o, y: (o - y).square().mean(),
    ),
    faulty(
        REGRESSION,
        "the same in a metric",
        "metrics are means",
        data=squeezed,
        net=mlp(4, 1),
        loss_fn=lambda o, y: functional.mse_loss(o.squeeze(1), y),
        metrics={"error": pairs_all},
    ),
    faulty(
        HEALTHY,
        "labels from -1, wrapped around",
        "labels fit outputs",
        data=changed(corners, labels=lambda y: y - 1),
        loss_fn=by_hand,
    ),
    faulty(
        HEALTHY,
        "labels from 1, and an output more",
        "labels fit outputs",
        data=changed(corners, labels=lambda y: y + 1),
        net=mlp(4, 4),
    ),
    faulty(DIGITS, "outputs that no label has", "labels fit outputs", data=changed(digits, labels=lambda y: y % 3)),
    faulty(
        HEALTHY, "labels that are all the same", "labels fit outputs", data=changed(corners, labels=lambda y: y * 0)
    ),
    faulty(HEALTHY, "a class that val lacks", "classes are in each split", data=sorted_by_class),
    faulty(HEALTHY, "a class that is nearly all", "classes are balanced", data=mostly_first),
    faulty(REGRESSION, "labels around 1000", "values are scaled", data=changed(sums, labels=lambda y: 1000 + 300 * y)),
    faulty(REGRESSION, "tanh before numbers beyond 1", "outputs reach labels", net=mlp(4, 1, nn.Tanh())),
    faulty(
        HEALTHY,
        "softmax over the batch",
        ("normalised over classes", "examples are judged alone"),
        net=mlp(4, 3, nn.LogSoftmax(dim=0)),
        loss_fn=functional.nll_loss,
    ),
    faulty(HEALTHY, "nll_loss of logits", "loss fits outputs", loss_fn=functional.nll_loss),
    faulty(
        HEALTHY,
        "softmax in the loss",
        "loss fits outputs",
        loss_fn=lambda o, y: functional.cross_entropy(o.softmax(1), y),
    ),
    faulty(REGRESSION, "the root of a mean", "loss adds up", loss_fn=lambda o, y: functional.mse_loss(o, y).sqrt()),
    faulty(
        HEALTHY, "a layer that is not used", "gradients reach all", net=lambda _: Wrapped(lambda layers, x: layers(x))
    ),
    faulty(
        HEALTHY,
        "a layer cut off by detach",
        "gradients reach all",
        net=without_unused(lambda layers, x: layers[2](layers[:2](x).detach())),
    ),
    faulty(
        HEALTHY,
        "a weight frozen without its bias",
        "no layer is half frozen",
        net=built(lambda m: m[0].weight.requires_grad_(False)),
    ),
    faulty(
        HEALTHY,
        "half of the network in the optimizer",
        "optimizer holds all",
        configure_optimizer=lambda m, p: torch.optim.Adam(m[2].parameters()),
    ),
    faulty(
        HEALTHY,
        "the optimizer of another network",
        "optimizer holds all",
        configure_optimizer=lambda m, p: torch.optim.Adam(mlp(4, 3)(p).parameters()),
    ),
    faulty(HEALTHY, "most units dead", "units fire", net=built(lambda m: nn.init.constant_(m[0].bias[:28], -30.0))),
    faulty(
        HEALTHY,
        "a column that is cut off",
        "inputs have influence",
        net=without_unused(lambda layers, x: layers(torch.cat([x[:, :3], x[:, :1]], 1))),
    ),
    faulty(
        HEALTHY,
        "dropout in evaluation",
        "evaluation repeats",
        net=without_unused(lambda layers, x: layers[2](functional.dropout(layers[:2](x), 0.5))),
    ),
    faulty(
        REGRESSION,
        "squeeze of a batch of one",
        "examples are judged alone",
        net=without_unused(lambda layers, x: layers(x).squeeze(), outputs=1),
        data=squeezed,
    ),
    faulty(
        HEALTHY,
        "a last batch of one under batch norm",
        "batches of one train",
        params={"batch_size": 239},
        net=lambda _: nn.Sequential(nn.Linear(4, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3)),
    ),
    faulty(
        HEALTHY,
        "first weights that are far too large",
        "first loss is near chance",
        net=built(lambda m: m[2].weight.data.mul_(60)),
    ),
    faulty(
        HEALTHY,
        "a loss of the wrong sign",
        "one batch is learnt by heart",
        loss_fn=lambda o, y: -functional.cross_entropy(o, y),
    ),
    faulty(
        HEALTHY,
        "labels that reach the outputs",
        ("outputs do not know labels", "shuffled labels are not learnt"),
        step=leaking,
    ),
    faulty(HEALTHY, "F1 as a function", "metrics are means", metrics={"f1": f1}),
    faulty(
        HEALTHY,
        "splits drawn under no seed",
        "splits are drawn alike",
        loader=lambda data, _: DataLoader(Subset(data, np.random.default_rng().permutation(90)), 32),
    ),
    faulty(
        HEALTHY,
        "pictures taken twice",
        "no picture has a near copy",
        data=near_copies,
        net=lambda _: nn.Sequential(nn.Flatten(), nn.Linear(256, 3)),
    ),
    faulty(
        HEALTHY,
        "a loader slower than the network",
        "time is spent on training",
        params={"num_epochs": 5000},
        loader=lambda data, split: DataLoader(Slow(*data.tensors), 32),
    ),
]


@pytest.mark.parametrize("case", [*FAULTS, *STUDENTS], ids=lambda case: case.name)
def test_a_fault_is_told(case):
    project = case.project()
    findings = {name: judge(BY_NAME[name], project) for name in case.told_by}
    assert [name for name, finding in findings.items() if finding.verdict not in TOLD or not finding.advice] == []


def test_each_check_has_a_fault_that_it_tells():
    told = {name for case in [*FAULTS, *STUDENTS] for name in case.told_by}
    assert BY_NAME.keys() - told == {"memory suffices"}  # what fills a memory cannot be tried here


@pytest.mark.parametrize("pair", COLLECTION, ids=lambda pair: pair[0].name)
def test_a_kind_of_the_published_collection_is_told_and_its_mending_is_not(pair):
    broken, mended = pair
    assert any(finding.verdict in TOLD for _, finding in examine(broken.project()))
    assert [found for found in examine(mended.project()) if found[1].verdict == "failed"] == []


def test_a_learning_rate_is_judged_by_trying_a_smaller_one():
    rates = {
        rate: judge(BY_NAME["learning rate is borne"], replace(DIGITS, params={"learning_rate": rate}).project())
        for rate in (0.001, 0.01, 1.0)
    }
    assert [finding.verdict for finding in rates.values()] == ["passed", "passed", "failed"]
