"""Gradients that leave while backward goes on: what they add up to is what it is where all of them leave afterwards."""

import shutil
import sys
import weakref
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from engine.data import EMPTY
from engine.experiment import StopRequest
from engine.training import Gradients, Processes, buckets, joined
from engine.training.metrics import Mean
from tests.support import together
from tests.support.folders import checkpoint as checkpoint_of
from tests.support.folders import same_results

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform == "win32", reason="Gloo and torchrun are tried on Linux and macOS"),
]


class Net(nn.Module):
    """(B, 3) -> (B, 2): rows whose last number is positive go through `middle`, the others through `other`."""

    def __init__(self, case):
        super().__init__()
        self.case = case
        self.first, self.unused = nn.Linear(3, 8), nn.Linear(8, 8)
        self.middle, self.other = nn.Linear(8, 8), nn.Linear(8, 8)
        self.last = self.last_again = nn.Linear(8, 2)
        self.to(case.dtype)
        self.phase = nn.Parameter(torch.full((8,), 1 + 1j, dtype=torch.complex64))

    def forward(self, inputs):
        hidden = self.first(inputs).tanh()
        is_even = inputs[:, -1] > 0
        for part, rows in ((self.middle, is_even), (self.other, ~is_even)):
            if rows.any():
                hidden = hidden.index_put((rows,), self.through(part, hidden[rows]))
        return self.last(hidden) + self.last_again(hidden * self.phase.abs().to(hidden.dtype))

    def through(self, part, hidden):
        if not self.case.recomputed:
            return part(hidden).tanh()
        return checkpoint(part, checkpoint(part, hidden, use_reentrant=True), use_reentrant=True)


class Case(NamedTuple):
    """What is trained, and what happens on the way."""

    sizes: tuple[int, ...] = (8,) * 6  # of the batches
    accumulate: int = 1
    dtype: Any = torch.float32
    backwards: int = 1  # in each batch
    doubled: bool = False  # gradients, by the loop, after backward
    frozen: tuple[int, ...] = ()  # steps in which a part is
    recomputed: bool = False  # within backward, which makes that call itself


CASES = {
    "plain": Case(),
    "ragged, with shares that are empty": Case((8, 1, 5, 1, 1, 8)),
    "accumulated, the last step of fewer": Case((8, 8, 8, 8, 8, 1, 8), accumulate=3),
    "accumulated, the last share of a step empty": Case((8, 8, 1, 8, 8, 2), accumulate=3),
    "backward called twice": Case(backwards=2),
    "gradients that the loop changes": Case(doubled=True),
    "frozen and thawed": Case(frozen=(1, 2, 4)),
    "called again within backward": Case(recomputed=True),
    "bfloat16": Case(dtype=torch.bfloat16),
    "float64": Case(dtype=torch.float64),
}


def batch(number, size, dtype):
    """Rows that are even and odd in turn, so that of two processes each has the ones or the others."""
    inputs = torch.randn(size, 3, generator=torch.Generator().manual_seed(number), dtype=dtype)
    inputs[:, -1] = torch.tensor([1.0, -1.0]).repeat(size)[:size]
    return inputs


def losses_of(model, inputs):
    """The totals over some rows from which backward is called."""
    if model.case.backwards == 1:
        return [model(inputs).square().sum()]
    return [model(inputs).square().sum(), model(inputs).sin().sum()]


def begun(case):
    torch.manual_seed(0)
    model = Net(case)
    return model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.01)


def freeze(model, number):
    model.middle.requires_grad_(number not in model.case.frozen)


def plain(case):
    """The weights after the steps on whole batches, in plain PyTorch."""
    model, optimizer = begun(case)
    for number, start in enumerate(range(0, len(case.sizes), case.accumulate)):
        freeze(model, number)
        sizes = case.sizes[start : start + case.accumulate]
        rows = [batch(start + index, size, case.dtype) for index, size in enumerate(sizes)]
        optimizer.zero_grad()
        (sum(loss for part in rows for loss in losses_of(model, part)) / sum(sizes) * (1 + case.doubled)).backward()
        optimizer.step()
    return model.state_dict()


def trained(case, processes):
    """The same by `Gradients`, of several processes; with what had left before backward was over, in each step."""
    model, optimizer = begun(case)
    gradients, early, kept = Gradients(model, case.accumulate, processes), [], []
    for number, step in enumerate(gradients.steps(shares(case, processes.share), None)):
        freeze(model, number)
        optimizer.zero_grad()
        assert not any(gradient() is not None for gradient in kept)  # nor any memory, where there is little
        processes.sent = 0
        for inputs in step:
            if inputs is not EMPTY:
                go_backward(gradients, model, inputs)
        early.append(processes.sent)
        gradients.average()
        kept = [weakref.ref(parameter.grad) for parameter in model.parameters() if parameter.grad is not None]
        optimizer.step()
    assert not any(parameter._post_accumulate_grad_hooks for parameter in model.parameters())
    return model.state_dict(), early


def shares(case, share):
    for number, size in enumerate(case.sizes):
        rows = share.of(range(size))
        yield share.take(batch(number, size, case.dtype)[rows.start :: rows.step] if rows else EMPTY, len(rows), size)[
            0
        ]


def go_backward(gradients, model, inputs):
    for number, loss in enumerate(losses_of(model, inputs)):
        rows = len(inputs) if number == 0 else 0
        total = gradients.share({"loss": Mean(loss / len(inputs), rows)}) if rows else loss
        total.backward()
    if model.case.doubled:
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(2)


class Counting(Processes):
    """Counts what it has begun to send."""

    sent = 0

    def adding_up(self, tensors):
        self.sent += 1
        return super().adding_up(tensors)


def train_all(place):
    """What each process does: all cases, with gradients that leave afterwards, and with such that leave early."""
    buckets.BUCKET_BYTES = 200
    with StopRequest() as stop, joined(stop) as processes:
        processes.__class__ = Counting
        results = {}
        for is_early in (False, True):
            buckets.can_leave_early = lambda model, is_early=is_early: is_early
            results |= {(name, is_early): trained(case, processes) for name, case in CASES.items()}
        torch.save(results, place / f"{processes.count}_{processes.rank}.pt")


@pytest.fixture(scope="module", params=[2, 3])
def results(request, tmp_path_factory):
    """What each of several processes has in the end: [{(case, whether early): (weights, sent early in each step)}]."""
    place, count = tmp_path_factory.mktemp("results"), request.param
    assert together.call(train_all, place, count=count) == [0] * count
    return [torch.load(place / f"{count}_{rank}.pt", weights_only=True) for rank in range(count)]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("is_early", [False, True], ids=["afterwards", "early"])
def test_the_steps_are_those_of_plain_pytorch_on_whole_batches(results, name, is_early):
    atol = 0.05 if CASES[name].dtype == torch.bfloat16 else 1e-6
    for own in results:
        torch.testing.assert_close(own[name, is_early][0], dict(plain(CASES[name])), rtol=0, atol=atol)


@pytest.mark.parametrize("name", CASES)
def test_what_leaves_early_gives_the_same_bits_in_all_processes_and_in_two_those_of_what_leaves_afterwards(
    results, name
):
    weights = [own[name, True][0] for own in results]
    if len(results) == 2:  # more add up in an order that follows from the message
        weights.append(results[0][name, False][0])
    for other in weights[1:]:
        assert all(torch.equal(other[key], value) for key, value in weights[0].items())


def test_they_leave_before_backward_is_over_from_the_second_step_on(results):
    """As soon as it is known what the process has no gradient for: else what stands in line behind that would wait."""
    for own in results[:2]:
        assert all(sent >= 3 for sent in own["plain", True][1][1:])
        assert not any(own["plain", False][1])


def test_they_leave_in_the_last_backward_of_a_step_alone(results):
    """And not at all in one that may be the last, but of which nobody knows, as the batches have ended before."""
    _, full, shorter = results[0]["accumulated, the last step of fewer", True][1]
    assert shorter == 0
    assert full > 0 or len(results) == 3  # where the first process has no row of the full step's last batch either


@pytest.mark.parametrize("name", ["backward called twice", "gradients that the loop changes"])
def test_where_it_was_in_vain_it_is_not_tried_again(results, name):
    assert not any(sent for own in results for sent in own[name, True][1][2:])


# In a run


def early():
    """On this machine, too, and in many messages."""
    buckets.BUCKET_BYTES, buckets.can_leave_early = 100, lambda model: True


@pytest.mark.parametrize("params", [{"accumulate": 2, "save_steps": 1}, {"grad_clip": 0.5, "loss": "weighted"}])
def test_a_run_has_the_same_bits(experiment, tmp_path, params):
    params = {"task": "tests.projects.ragged", "data_dir": "none", "batch_size": 8, "num_epochs": 2, **params}
    folders = [experiment(name, **params) for name in ("afterwards", "early")]
    for folder, faults in zip(folders, ({}, dict.fromkeys((0, 1), early)), strict=True):
        ends = together.fork("train", "--model_dir", folder, output=tmp_path, faults=faults)
        assert [end.status for end in ends] == [0, 0], ends
    assert same_results(*folders)


def early_and_compiled():
    from torch._inductor import config

    early()
    config.compile_threads = 1  # a pool of processes takes longer to start than there is to compile


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler of C++")
def test_a_compiled_network_trains_what_a_plain_one_does_in_one_process(points, tmp_path, script):
    one, two = points("one", batch_size=20, num_epochs=1), points("two", batch_size=20, num_epochs=1, compile=True)
    assert script("train", "--model_dir", one).status == 0
    faults = dict.fromkeys((0, 1), early_and_compiled)
    ends = together.fork("train", "--model_dir", two, output=tmp_path, faults=faults)
    assert [end.status for end in ends] == [0, 0], ends
    states = [dict(checkpoint_of(folder)["state_dict"]) for folder in (two, one)]
    torch.testing.assert_close(*states, rtol=0, atol=1e-5)


SPARSE = """class Net(nn.Module):
    def __init__(self, params):
        super().__init__()
        self.table = nn.Embedding(9, 3, sparse=True)

    def forward(self, points):
        return self.table(points[:, 0].long() % 9)"""
FROZEN = """import os

class Net(nn.Sequential):
    def __init__(self, params):
        super().__init__(*(nn.Linear(2, 2) for _ in range(3)), nn.Linear(2, 3))
        self[int(os.environ["RANK"])].requires_grad_(False)"""


@pytest.mark.parametrize(
    ("net", "line"),
    [(SPARSE, "several processes cannot add up sparse gradients"), (FROZEN, "other parameters are frozen in one")],
    ids=["sparse", "frozen in one process alone"],
)
def test_what_cannot_be_added_up_is_one_line(points, tmp_path, variant, net, line):
    folder, path = points(task="mine", optimizer="SGD"), variant("mine", net)
    faults = dict.fromkeys((0, 1), early)
    ends = together.fork("train", "--model_dir", folder, output=tmp_path, path=path, faults=faults)
    (told,) = [end.stderr for end in ends if end.stderr]
    assert told.startswith(f"error: {line}")
    assert told.count("\n") == 1
