"""`train.py --check` as people run it: a line for each point, exit status 1 if one failed, nothing left behind."""

import math
import time

import numpy as np
import pytest
import torch
from scipy.stats import entropy as entropy_of_scipy
from sklearn.metrics import log_loss
from torch import nn

from engine.check.batches import batch_passes
from engine.check.examination import CHECKS, judge
from engine.check.heads import heads_of, heads_under, joined, last_operation
from engine.check.learning import one_batch_is_learnt_by_heart, shuffled_labels_are_not_learnt
from engine.check.project import labels_in
from engine.check.rates import draw
from engine.check.speed import batches_in_epoch, memory_suffices
from engine.check.splits import no_example_is_in_two_splits
from engine.hyperparameters import load_params
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


def padded(lengths, seed):
    """Sequences of which the first few labels count; the rest is padded with a class that there is."""
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(len(lengths), 7, 3, generator=generator, requires_grad=True)
    labels = torch.randint(3, (len(lengths), 7), generator=generator)
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    each = nn.functional.cross_entropy(outputs.movedim(2, 1), labels.where(mask, 0), reduction="none")
    (head,) = heads_under((each * mask).sum() / mask.sum(), outputs, labels.where(mask, 0)).values()
    return head, labels[mask], outputs[mask]


def test_rows_that_the_loss_leaves_out_do_not_count():
    head, labels, outputs = padded([7, 2, 0, 4], seed=0)
    assert head.counted.tolist() == [place < length for length in (7, 2, 0, 4) for place in range(7)]
    assert head.chance() == pytest.approx(entropy_of_scipy(np.bincount(labels)))
    assert torch.equal(head.losses(), nn.functional.cross_entropy(outputs, labels, reduction="none"))


def test_rows_that_the_loss_leaves_out_do_not_count_in_several_batches_either():
    parts = [padded([7, 2, 0, 4], seed=0), padded([1, 7], seed=1), padded([7, 7], seed=2)]
    head = joined([part[0] for part in parts])
    labels, outputs = (torch.cat([part[place] for part in parts]) for place in (1, 2))
    assert int(head.counted.sum()) == len(labels) == 13 + 8 + 14
    assert head.chance() == pytest.approx(entropy_of_scipy(np.bincount(labels)))
    assert torch.equal(head.losses(), nn.functional.cross_entropy(outputs.detach(), labels, reduction="none"))


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


class Heavy(nn.Linear):
    """A network that takes a hundredth of a second for each example."""

    def forward(self, inputs):
        time.sleep(0.01 * len(inputs))
        return super().forward(inputs)


class Faint(nn.Module):
    """Hardly anything comes out, so that much more than a few steps are needed."""

    def forward(self, inputs):
        return 1e-6 * inputs


def test_of_a_network_that_takes_long_a_few_examples_of_each_batch_are_taken():
    project = HEALTHY.project()
    whole = [len(labels) for _, labels in project.batches["train"]]
    slow = faulty(HEALTHY, "slow", (), net=lambda params: Heavy(4, 3)).project(seconds=3.0)
    assert {len(labels) for split in ("train", "val") for _, labels in slow.batches[split]} == {4}
    assert slow.lengths == project.lengths == whole
    assert slow.cut == max(whole) / 4
    for split in ("train", "val"):
        for (inputs, labels), (first, known) in zip(project.batches[split], slow.batches[split], strict=True):
            assert torch.equal(inputs[:4], first)
            assert torch.equal(labels[:4], known)
    assert f"examined with 1 in {max(whole) / 4:g} of its examples" in batch_passes(slow).seen
    assert f" for {max(whole)} examples; about " in memory_suffices(slow).seen


def test_what_there_was_no_time_for_is_not_judged():
    slow = faulty(HEALTHY, "slow", (), net=lambda params: nn.Sequential(Heavy(4, 3), Faint())).project(seconds=3.0)
    for check in (one_batch_is_learnt_by_heart, shuffled_labels_are_not_learnt):
        finding = judge(check, slow)
        assert finding.verdict == "not judged"
        assert "are all there was time for" in finding.seen


@pytest.mark.parametrize(
    ("params", "batches"),
    [({}, 23), ({"max_train_batches": 5}, 5), ({"steps_per_epoch": 7, "accumulate": 2}, 14)],
)
def test_an_epoch_is_as_long_as_params_say(params, batches):
    project = HEALTHY.project()
    project.params = load_params("params.json", {"batch_size": 16, **params})
    project.loaders["train"] = [None] * 23
    assert batches_in_epoch(project) == batches


def test_labels_that_a_step_makes_of_another_type_are_still_labels():
    inputs, labels = torch.randint(0, 9, (4, 6), dtype=torch.uint8), torch.randint(0, 9, (4, 6), dtype=torch.uint8)
    assert [tensor is labels for tensor in labels_in((inputs, labels), labels.long())] == [True]
    assert [tensor is labels for tensor in labels_in((labels.float(), labels), labels)] == [True]  # a copy is an input
    assert labels_in((inputs, labels), labels.long() + 1) == []


def test_a_picture_that_cannot_be_written_ends_nothing(tmp_path):
    (tmp_path / "learning_rate_range.png").mkdir()
    said = draw([0.1, 1.0], [2.0, 1.0], 0.1, 0.1, tmp_path)
    assert said.startswith(f"; {tmp_path / 'learning_rate_range.png'} cannot be written (")
