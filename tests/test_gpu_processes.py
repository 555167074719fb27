"""Several processes on GPUs: one stands in for those of two machines, which talk by NCCL.

NCCL takes one GPU for two if it is told that these are in two machines. Where that is said of none, the same is tried
without a GPU.
"""

import functools
import shutil
import signal

import pytest
import torch
import torch.distributed as dist

from engine.training import buckets
from tests.support import faults, together
from tests.support.folders import checkpoint, history, read, same_results
from tests.support.gpu import NEEDS_GPU

ON_GPU = pytest.param("cuda", marks=NEEDS_GPU)
ANYWHERE = [pytest.param("cpu", marks=pytest.mark.processes), ON_GPU]

RAGGED = {
    "task": "tests.projects.ragged",
    "data_dir": "none",
    "batch_size": 8,  # of 49 rows: the last batch of a pass has one, and the second process none of it
    "num_epochs": 8,
    "optimizer": "SGD",
    "momentum": 0.9,
    "weight_decay": 0.01,
    "learning_rate": 0.02,
}


@pytest.fixture(autouse=True)
def none_hangs_for_long(monkeypatch):
    monkeypatch.setattr(together, "LONGEST_SECONDS", 90)


@pytest.fixture
def ragged(experiment, device):
    """Makes an experiment on the ragged points: `ragged("name", norm="in fours")`."""

    def make(name="experiment", /, **params):
        if device == "cpu" and params.get("norm"):
            params["norm"] += ", over all processes"  # as the engine makes of every batch norm on GPUs
        return experiment(name, **RAGGED | {"device": device} | params)

    return make


@pytest.fixture
def on_two(tmp_path):
    """Trains on two machines: `on_two(folder, {1: what the second is to do first})`; returns how each has ended."""
    return lambda folder, faults=None: together.fork(
        "train", "--model_dir", folder, output=tmp_path, faults=faults, on_machines=True
    )


def assert_same_weights(folder, other, atol=1e-5):
    one, two = ({n: v.cpu() for n, v in checkpoint(place)["state_dict"].items()} for place in (folder, other))
    torch.testing.assert_close(one, two, rtol=0, atol=atol)


def losses_in(scores):
    """What rounding leaves as it is, where it may turn the order of two examples over."""
    return {name: value for name, value in scores.items() if name.endswith("loss")}


CASES = {
    "norm": {"norm": "in fours"},
    "accumulated": {"accumulate": 3, "grad_clip": 0.5, "ema_decay": 0.9},
}


@pytest.mark.parametrize("device", ANYWHERE)
def test_two_machines_train_what_one_process_does(ragged, tmp_path):
    """Under torchrun, with shares that are empty, and batch norm over both."""
    folders = {(case, count): ragged(f"{case}_{count}", **CASES[case]) for case in CASES for count in (1, 2)}
    words = {n: [["train", "--model_dir", folders[case, n]] for case in CASES] for n in (1, 2)}
    for count in (1, 2):
        words[count].append(["evaluate", "--model_dir", folders["norm", count], "--restore_file", "last"])
    ends = together.run_on_machines(words[2], tmp_path / "machine")
    assert [end.status for end in ends] == [0, 0], ends
    together.run_all(words[1], tmp_path / "one", count=1)
    for case in CASES:
        one, two = (folders[case, count] for count in (1, 2))
        assert_same_weights(one, two)
        assert checkpoint(one)["step"] == checkpoint(two)["step"]
        for expected, row in zip(history(one), history(two), strict=True):
            assert losses_in(row) == pytest.approx(losses_in(expected), abs=1e-4)
    scores = [losses_in(read(folders["norm", count], "metrics_test_last.json")) for count in (1, 2)]
    assert scores[1] == pytest.approx(scores[0], abs=1e-4)


def in_many_messages():
    """As for a network of many megabytes."""
    buckets.BUCKET_BYTES = 100


def in_many_messages_by_gloo():
    """Which takes a GPU as it is, should NCCL refuse to take it for two."""
    in_many_messages()
    begin = dist.init_process_group
    dist.init_process_group = lambda backend, **options: begin(backend.replace("nccl", "gloo"), **options)


@pytest.mark.parametrize("device", [ON_GPU])
@pytest.mark.parametrize("way", [in_many_messages, in_many_messages_by_gloo])
def test_gradients_that_leave_early_in_many_messages_are_the_same(ragged, on_two, script, way):
    one, two = ragged("one"), ragged("two")
    assert script("train", "--model_dir", one).status == 0
    ends = on_two(two, dict.fromkeys((0, 1), way))
    assert [end.status for end in ends] == [0, 0], ends
    assert_same_weights(one, two)


@pytest.mark.parametrize("device", ANYWHERE)
@pytest.mark.parametrize(("precision", "atol"), [("bfloat16", 0.05), ("float16", 0.2)])
def test_batch_norm_of_16_bits_takes_empty_shares_too(ragged, on_two, script, precision, atol):
    """What a process without rows says of its statistics is to be as long as what the others say.

    In float16 two leave out more of the first steps than one.
    """
    one, two = (ragged(name, norm="in fours", precision=precision, num_epochs=2) for name in ("one", "two"))
    assert script("train", "--model_dir", one).status == 0
    ends = on_two(two)
    assert [end.status for end in ends] == [0, 0], ends
    assert_same_weights(one, two, atol)


def stop_in_ninth():
    faults.act_at_batch(9, functools.partial(faults.signal_self, signal.SIGTERM))


@pytest.mark.parametrize("device", [ON_GPU])
def test_a_run_that_was_stopped_goes_on_with_the_same_bits_and_on_one_machine(ragged, on_two, script):
    undisturbed, stopped = (ragged(name, num_epochs=3) for name in ("undisturbed", "stopped"))
    assert [end.status for end in on_two(undisturbed)] == [0, 0]
    assert [end.status for end in on_two(stopped, {1: stop_in_ninth})] == [128 + signal.SIGTERM] * 2
    alone = shutil.copytree(stopped, stopped.with_name("alone"))
    assert [end.status for end in on_two(stopped)] == [0, 0]
    assert same_results(stopped, undisturbed)
    assert script("train", "--model_dir", alone).status == 0
    assert "its last bits may differ: 2 -> 1 processes\n" in (alone / "train.log").read_text()
    assert_same_weights(alone, undisturbed)


def refuse_to_wait():
    """PyTorch raises an error where the GPU is waited for, from the second step to the last but one of an epoch."""
    from engine.training import Watch

    in_many_messages()
    after_step = Watch.after_step

    def watched(self):
        after_step(self)
        torch.cuda.set_sync_debug_mode("error" if self.state.scores.batches < 200 // 32 else "default")

    Watch.after_step = watched


@pytest.mark.parametrize("device", [ON_GPU])
def test_no_process_waits_for_its_gpu_in_a_step(points, on_two, device):
    folder = points(device=device, ema_decay=0.9, grad_clip=1.0)  # the metrics of the ragged ones do wait
    ends = on_two(folder, dict.fromkeys((0, 1), refuse_to_wait))
    assert [end.status for end in ends] == [0, 0], ends


def fail_in_ninth():
    in_many_messages()
    faults.act_at_batch(9, functools.partial(int, "a bad example"))


@pytest.mark.parametrize("device", [ON_GPU])
def test_an_error_in_one_process_ends_the_other_whose_gradients_are_on_their_way(ragged, on_two):
    ends = on_two(ragged(), {0: in_many_messages, 1: fail_in_ninth})
    assert [end.status for end in ends] == [1, 1], ends
    assert ["a bad example" in end.stderr for end in ends] == [False, True]
