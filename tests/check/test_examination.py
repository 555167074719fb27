"""`train.py --check` as people run it: a line for each point, exit status 1 if one failed, nothing left behind."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy as entropy_of_scipy
from sklearn.metrics import log_loss
from torch import nn

from engine.check.examination import CHECKS, judge
from engine.check.heads import heads_of, last_operation
from engine.check.speed import memory_suffices
from engine.check.splits import no_example_is_in_two_splits
from tests.check.cases import HEALTHY, corners, faulty
from tests.support.folders import contents

LINES = ("passed", "warned", "failed", "not judged")


def test_a_healthy_task_passes_and_nothing_but_a_picture_is_written(points, script):
    folder = points()
    before = contents(folder)
    done = script("train", "--model_dir", folder, "--check")
    assert (done.status, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.startswith(LINES) for line in lines[: len(CHECKS)]] == [True] * len(CHECKS)
    assert contents(folder).keys() - before.keys() == {"learning_rate_range.png"}
    assert {name: contents(folder)[name] for name in before} == before


def test_a_fault_ends_with_status_1_and_the_line_that_says_what_to_do(points, variant, script):
    net = "class Net(Net):\n    def forward(self, points):\n        return super().forward(points).softmax(1)\n"
    done = script("train", "--model_dir", points(task="wrong"), "--check", path=variant("wrong", net=net))
    assert done.status == 1
    assert (
        "failed     loss fits outputs: the loss is made for logits, and is given what comes out of Softmax"
        in done.stdout
    )
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_test_is_looked_at_for_its_contents_alone():
    project = HEALTHY.project()
    for check in CHECKS:
        if check is not no_example_is_in_two_splits:
            judge(check, project)
    assert set(project.batches) == {"train", "val"}


def test_an_example_in_two_splits_is_counted():
    def mixed(split):
        inputs, labels = corners(split)
        return (
            (torch.cat([inputs, corners("test")[0][:7]]), torch.cat([labels, corners("test")[1][:7]]))
            if split == "train"
            else (inputs, labels)
        )

    found = no_example_is_in_two_splits(faulty(HEALTHY, "mixed", (), data=mixed).project())
    assert found.verdict == "failed"
    assert found.seen == "7 of 90 examples of test are in train, too"


def test_as_many_copies_as_in_train_itself_are_no_fault():
    def few_values(split):
        generator = np.random.default_rng(["train", "val", "test"].index(split))
        labels = generator.integers(3, size=120)
        return torch.tensor(
            np.eye(4)[labels] + generator.integers(3, size=(120, 4)), dtype=torch.float32
        ), torch.tensor(labels)

    assert no_example_is_in_two_splits(faulty(HEALTHY, "few", (), data=few_values).project()).verdict == "passed"


def test_chance_and_losses_are_those_of_scipy_and_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(200, 4, generator=generator), torch.randint(4, (200,), generator=generator)
    (head,) = heads_of(logits, labels).values()
    assert head.chance() == pytest.approx(entropy_of_scipy(np.bincount(labels)))
    assert float(head.losses().mean()) == pytest.approx(log_loss(labels, logits.double().softmax(1)), rel=1e-5)
    (flags,) = heads_of(logits[:, 0], (labels > 1).long()).values()
    assert flags.chance() == pytest.approx(
        entropy_of_scipy([(labels > 1).float().mean(), (labels <= 1).float().mean()]), rel=1e-5
    )
    (values,) = heads_of(logits[:, :1], logits[:, 1]).values()
    assert values.chance() == pytest.approx(float(np.var(logits[:, 1].numpy())), rel=1e-5)


SHAPES = [  # of outputs and labels, and what they are to each other
    ((8, 3), (8,), "classes"),
    ((8, 3, 5, 5), (8, 5, 5), "classes"),
    ((8, 7, 3), (8, 7), "classes"),
    ((56, 3), (8, 7), "classes"),
    ((8,), (8,), "flags"),
]


@pytest.mark.parametrize(("outputs", "labels", "kind"), SHAPES)
def test_outputs_find_their_labels_wherever_the_classes_stand(outputs, labels, kind):
    targets = torch.arange(math.prod(labels)).reshape(labels) % (3 if kind == "classes" else 2)
    given = torch.randn(outputs)
    (head,) = heads_of(given, targets).values()
    assert head.kind == kind
    if kind == "classes" and len(outputs) > len(labels):
        moved = given if outputs[1] == 3 else given.movedim(-1, 1)
        by_torch = nn.functional.cross_entropy(moved, targets)
        assert float(head.losses().mean()) == pytest.approx(float(by_torch), rel=1e-5)


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Softmax(1), nn.LogSoftmax(1), nn.Tanh(), nn.ReLU()], ids=str)
def test_the_last_operation_is_seen_through_changes_of_shape(last):
    outputs = last(nn.Linear(4, 1)(torch.randn(5, 4)))
    assert last_operation(outputs) == last_operation(outputs.squeeze(1)) == type(last).__name__.replace("ReLU", "Relu")


def test_memory_is_that_of_a_count_by_hand():
    found = memory_suffices(HEALTHY.project())
    weights = 4 * 32 + 32 + 32 * 3 + 3
    assert found.seen.startswith(f"{4 * 4 * weights / 1000:.1f} kB for the network, ")
