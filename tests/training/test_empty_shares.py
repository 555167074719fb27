"""Processes without rows of a batch, where batch norm over all of them waits for each."""

import functools
import signal
import sys

import pytest
import torch
from torch import nn

from engine.data import EMPTY, without_rows
from engine.errors import UserError
from engine.experiment import StopRequest
from engine.training import joined
from engine.training.empty_shares import EmptyShares
from engine.training.metrics import Mean
from tests.projects.ragged.data_loader import points
from tests.projects.ragged.sync import SyncNorm
from tests.support import faults, together
from tests.support.folders import checkpoint, history, same, same_results

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform == "win32", reason="Gloo and torchrun are tried on Linux and macOS"),
]

RAGGED = {
    "task": "tests.projects.ragged",
    "data_dir": "none",
    "norm": "in fours, over all processes",
    "batch_size": 8,  # of 49 rows, so that the last batch of a pass has one
    "num_epochs": 4,
    "optimizer": "SGD",
    "momentum": 0.9,
    "learning_rate": 0.02,
}
WAYS = {
    "resident": {},
    "accumulated": {"accumulate": 2},
    "loader": {"loader": "loader", "num_workers": 0},
    "stream": {"loader": "stream", "max_train_batches": 7},
}


@pytest.mark.parametrize(("count", "way"), [(2, "resident"), (3, "accumulated"), (3, "loader"), (2, "stream")])
def test_batch_norm_over_all_processes_trains_what_it_does_in_one(experiment, script, tmp_path, way, count):
    one, several = (experiment(name, **RAGGED | WAYS[way]) for name in ("one", "several"))
    assert script("train", "--model_dir", one).status == 0
    ends = together.fork("train", "--model_dir", several, output=tmp_path, count=count)
    assert [end.status for end in ends] == [0] * count, ends
    states = [dict(checkpoint(folder)["state_dict"]) for folder in (several, one)]
    torch.testing.assert_close(*states, rtol=0, atol=1e-5)
    for expected, row in zip(history(one), history(several), strict=True):
        assert row == pytest.approx(expected, abs=2e-3)  # rounding may turn the order of two examples over


def stop():
    faults.signal_self(signal.SIGTERM)


def test_a_run_goes_on_right_before_a_batch_of_which_there_are_no_rows(experiment, tmp_path):
    """When a process has yet to see what batches look like."""
    folder, undisturbed = (experiment(name, **RAGGED) for name in ("stopped", "undisturbed"))
    in_sixth = functools.partial(faults.act_at_batch, 2 * 6, stop)  # of two sequences for each batch
    ends = together.fork("train", "--model_dir", folder, output=tmp_path, faults={0: in_sixth})
    assert [end.status for end in ends] == [128 + signal.SIGTERM] * 2
    assert checkpoint(folder)["step"] == 6
    for place in (folder, undisturbed):
        assert [end.status for end in together.fork("train", "--model_dir", place, output=tmp_path)] == [0, 0]
    assert same_results(folder, undisturbed)


OTHER_STATISTICS = """
from tests.projects.ragged import net
from tests.projects.ragged.net import *

class Centred(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(2))

    def forward(self, points):
        if self.training:
            self.running_mean.lerp_(points.mean(0), 0.1)  # of no rows, that is no number
        return points - self.running_mean

class Net(net.Net):
    def __init__(self, params):
        super().__init__(params)
        self.layers.insert(0, Centred())
"""
DEMANDING = """
from tests.projects.ragged import net
from tests.projects.ragged.net import *

def loss_fn(outputs, labels, params):
    labels.max()
    return net.loss_fn(outputs, labels, params)
"""


@pytest.fixture
def mine(task_package, experiment):
    """An experiment on a variant of the ragged points: `mine(net="...")` -> its folder, and that of the task."""

    def make(net, **params):
        path = task_package("mine", net=net, data_loader="from tests.projects.ragged.data_loader import *")
        return experiment(**RAGGED | {"task": "mine"} | params), path

    return make


def test_other_statistics_know_nothing_of_it(mine, tmp_path):
    folder, path = mine(OTHER_STATISTICS, num_epochs=1)
    ends = together.fork("train", "--model_dir", folder, output=tmp_path, path=path)
    assert [end.status for end in ends] == [0, 0], ends
    mean, inputs = torch.zeros(2), points("train")[0]
    for start in range(0, 49, 8):
        mean.lerp_(inputs[start : start + 8].mean(0), 0.1)
    torch.testing.assert_close(checkpoint(folder)["state_dict"]["layers.0.running_mean"], mean, rtol=0, atol=1e-6)


def test_what_cannot_do_without_rows_is_one_line_with_ways_out(mine, tmp_path):
    folder, path = mine(DEMANDING)
    ends = together.fork("train", "--model_dir", folder, output=tmp_path, path=path)
    assert ends[1].stderr.startswith("error: a batch has no rows for one of 2 processes")
    assert "max()" in ends[1].stderr
    assert '"sync_batchnorm": false' in ends[1].stderr
    assert ends[1].stderr.count("\n") == 1


def leave_it_out():
    """As a loop of one's own does whose batches do not come from `Gradients.steps`."""
    from engine.training.empty_shares import EmptyShares

    EmptyShares.go_through = lambda *_: None


def test_a_loop_that_leaves_it_out_is_told(experiment, tmp_path):
    both = dict.fromkeys((0, 1), leave_it_out)
    ends = together.fork("train", "--model_dir", experiment(**RAGGED), output=tmp_path, faults=both)
    assert ends[1].stderr.startswith("error: a batch has no rows for one of 2 processes")
    assert "which this loop does not see to" in ends[1].stderr


def look_and_go_through():
    """In the first process, a shard of the data has ended before the others'."""
    with StopRequest() as stop, joined(stop) as processes:
        net, seen = nn.Sequential(nn.Linear(3, 2), SyncNorm(2)), []
        shares = EmptyShares(net, processes)
        shares.look(EMPTY if processes.is_first else (torch.ones(4, 3), torch.ones(4)))

        def forward(batch):
            seen.append(batch)
            return {"loss": Mean(net[0](batch[0]).sum(), 0)}, None, None

        shares.go_through(forward)
        assert same(seen, [(torch.ones(0, 3), torch.ones(0))])


def test_what_batches_look_like_is_seen_by_a_process_that_has_one():
    assert together.call(look_and_go_through) == [0, 0]


# Batches of no rows


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ((torch.ones(4, 3), torch.ones(4)), (torch.ones(0, 3), torch.ones(0))),
        ((torch.ones(1, 3), torch.ones(1)), (torch.ones(0, 3), torch.ones(0))),
        ({"x": torch.ones(2, 3), "scale": torch.tensor(2.0)}, {"x": torch.ones(0, 3), "scale": torch.tensor(2.0)}),
        ([torch.ones(3, 1), ["a", "b", "c"]], [torch.ones(0, 1), []]),
    ],
)
def test_a_batch_of_no_rows_has_the_form_of_others(batch, expected):
    assert same(without_rows(batch), expected)


@pytest.mark.parametrize("batch", [object(), (torch.ones(4), torch.ones(3)), 3])
def test_of_what_cannot_be_told_there_is_none(batch):
    with pytest.raises(UserError, match="which example cannot be told"):
        without_rows(batch)
