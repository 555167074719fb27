"""What only a GPU can show: nobody waits for it, and the promises hold there as they do on a CPU."""

import functools
import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset

import train
from engine.data import Feed, TensorBatches
from engine.training import Scores, Watch, choose_device, mean_losses, transfer
from engine.training.transfer import Transfer
from tests.projects.odd_networks import data_loader
from tests.projects.odd_networks.net import NETS
from tests.projects.points.data_loader import points as examples_of
from tests.scripts.test_predict import READING
from tests.support import faults, scripts
from tests.support.folders import checkpoint, history, read, same_results
from tests.support.gpu import NEEDS_GPU

pytestmark = NEEDS_GPU


@pytest.fixture
def busy():
    """Keeps the GPU at work: `busy()` -> an event that has happened when it is done."""

    def work():
        matrix, done = torch.ones(8192, 8192, device="cuda"), torch.cuda.Event()
        torch.cuda.synchronize()
        for _ in range(50):
            matrix @ matrix
        done.record()
        return done

    return work


@pytest.fixture
def trained(tmp_path):
    """Trains in this process: `trained("name", task=..., ...)`; returns the folder."""

    def run(name="run", **params):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "params.json").write_text(json.dumps({"data_dir": "none", **params}))
        train.main(["--model_dir", str(folder)])
        return folder

    return run


POINTS = {"task": "tests.projects.points", "num_epochs": 2, "learning_rate": 0.01}


# Nobody waits


def test_a_batch_on_its_way_to_the_gpu_is_not_waited_for(busy):
    device, batch = choose_device("cuda"), torch.arange(1_000_000)
    device.move(batch)  # the first pinned memory takes its time
    done = busy()
    moved = device.move(batch)
    assert not done.query()  # what stood in line before the copy is still under way
    assert torch.equal(moved.cpu(), batch)


@pytest.mark.parametrize("loader", ["resident", "in memory", "of torch"])
def test_batches_of_every_kind_of_loader_are_on_their_way_while_the_gpu_works(busy, monkeypatch, loader):
    inputs, labels = torch.arange(400_000.0).view(1000, 400), torch.arange(1000)
    device = choose_device("cuda")
    batches = DataLoader(TensorDataset(inputs, labels), batch_size=100)
    if loader != "of torch":
        batches = TensorBatches(inputs, labels, batch_size=100)
        if loader == "in memory":
            monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1_000_000, 1_000_000))
        batches.to(device.device)
        assert batches.tensors[0].is_cuda == (loader == "resident")
    feed = Feed(batches, seed=1)
    busy()
    list(map(device.move, feed.epoch(0)))  # all of whose pinned memory is used again
    epoch = feed.epoch(1)
    first = next(epoch)  # before which the order of a pass goes over at once
    done = busy()
    moved = [device.move(batch) for batch in (first, *epoch)]
    assert not done.query()
    assert torch.equal(torch.cat([inputs for inputs, _ in moved]).cpu(), inputs)
    assert torch.equal(torch.cat([labels for _, labels in moved]).cpu(), labels)


def test_what_is_scored_comes_over_while_the_gpu_works_and_is_what_it_was(busy):
    values, labels = torch.ones(1000, 100, device="cuda"), torch.arange(6, dtype=torch.int16, device="cuda")[::2]
    warm = Transfer()
    warm.add([values, values, values, labels])
    warm.send()
    warm.arrays()
    del warm  # the first pinned memory takes its time, and can be used again from now on
    done = busy()
    transfer = Transfer()
    for part in range(3):
        values.fill_(part)
        transfer.add({"labels": labels, "outputs": [values, "text"]}, about=part)
    values.zero_()
    transfer.send()
    assert not done.query()
    assert transfer.is_on_its_way
    for part, kept in transfer.arrays():
        assert (kept["outputs"][0] == part).all()
        assert kept["outputs"][1] == "text"
        assert kept["labels"].tolist() == [0, 2, 4]


def test_scores_of_a_batch_are_added_up_when_the_next_ones_are_sent(busy, monkeypatch):
    monkeypatch.setattr(transfer, "MOST_PARTS", 1)

    def accuracy(outputs, labels):
        seen.append(len(labels))
        return (outputs.argmax(1) == labels).mean()

    seen, scores = [], Scores({"accuracy": accuracy})
    outputs, labels = torch.eye(4, device="cuda"), torch.tensor([0, 1, 2, 0], device="cuda")
    losses = mean_losses(cross_entropy(outputs, labels), outputs, labels)
    scores.add(losses, outputs, labels)
    scores.compute()
    done = busy()
    scores.add(losses, outputs, labels)
    assert not done.query()
    assert seen == [4]
    assert scores.compute()["accuracy"] == 0.75
    assert seen == [4, 4]


def test_nothing_else_waits_in_a_step(trained, monkeypatch):
    """PyTorch itself raises an error where something does, from the second step to the last but one of an epoch."""
    after_step, steps = Watch.after_step, 200 // 32

    def watched(self):
        after_step(self)
        torch.cuda.set_sync_debug_mode("error" if self.state.scores.batches < steps else "default")

    monkeypatch.setattr(Watch, "after_step", watched)
    try:
        folder = trained(**POINTS, ema_decay=0.9, grad_clip=1.0, schedule="cosine")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(history(folder)) == 2


# Resume

NOISY = {
    "task": "tests.projects.noisy",
    "data_dir": "none",
    "deterministic": True,
    "num_epochs": 2,
    "learning_rate": 0.01,
    "schedule": "cosine",
    "ema_decay": 0.9,
    "grad_clip": 1.0,
    "accumulate": 2,
    "save_steps": 2,
}
WAYS = {
    "float32": {"loader": "resident"},
    "float16": {"loader": "resident", "precision": "float16"},
    "auto": {"loader": "resident", "precision": "auto"},
    "two workers": {"loader": "workers", "num_workers": 2},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_was_killed_ends_with_the_same_bits_where_operations_are_deterministic(tmp_path, way):
    params = NOISY | WAYS[way]

    def run(name, before=None):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "params.json").write_text(json.dumps(params))
        return folder, scripts.run("train", "--model_dir", folder, before=before, output=tmp_path)

    whole, done = run("whole")
    assert done.status == 0, done.stderr
    assert "cuda" in read(whole, "run.json")["device"]
    killed, done = run("killed", functools.partial(faults.act_at_batch, 7, faults.die))
    assert done.status == -signal.SIGKILL
    killed, done = run("killed")
    assert done.status == 0, done.stderr
    assert same_results(killed, whole)


# Precision

FLOAT16 = {
    "task": "tests.projects.odd_networks",
    "net": "batch norm",
    "precision": "float16",
    "batch_size": 4,
    "num_epochs": 4,
    "optimizer": "SGD",
    "momentum": 0.9,
    "learning_rate": 0.05,
    "schedule": "linear",
}


def steep(outputs, labels):
    """A loss whose gradients, times 2 ** 16, are beyond float16."""
    return 40 * cross_entropy(outputs, labels)


def test_float16_trains_what_a_loop_with_grad_scaler_trains(trained, monkeypatch):
    torch.manual_seed(230)
    model = NETS["batch norm"]().cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    schedule, scaler = LambdaLR(optimizer, lambda step: 1 - step / 24), torch.amp.GradScaler("cuda")
    for inputs, labels in data_loader.batches("train", 4) * 4:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            loss = steep(model(inputs.cuda()), labels.cuda())
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        before = scaler.get_scale()
        scaler.update()
        if scaler.get_scale() >= before:
            schedule.step()
    monkeypatch.setattr("tests.projects.odd_networks.net.loss_fn", steep)
    content = checkpoint(trained(**FLOAT16))
    assert 0 < content["step"] < 24  # some were left out
    assert content["step"] == schedule.last_epoch
    assert content["loss_scale"]["scale"] == scaler.get_scale()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(content["state_dict"][name].cpu(), value.cpu(), rtol=0.02, atol=0.02)


def test_auto_is_bfloat16_where_the_gpu_has_it(trained):
    folder = trained(**POINTS, precision="auto")
    has_it = torch.cuda.get_device_capability() >= (8, 0)
    assert ("bfloat16" if has_it else "float16") in read(folder, "run.json")["device"]
    with choose_device("cuda", "auto").autocast():
        outputs = torch.ones(8, 8, device="cuda") @ torch.ones(8, 8, device="cuda")
    assert outputs.dtype == (torch.bfloat16 if has_it else torch.float16)


# The rest


def test_the_peak_of_the_memory_is_told_and_is_the_run_s_own(trained):
    torch.ones(2**28, device="cuda")  # 1 GiB, as somebody's notebook may have had
    folder = trained(**POINTS)
    (row, *_) = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    assert 0 < row["peak_memory"] < 2**27
    assert ", peak memory 0.0" in (folder / "train.log").read_text()


@pytest.mark.slow
def test_a_compiled_network_trains_what_a_plain_one_does(trained):
    plain, compiled = trained("plain", **POINTS), trained("compiled", **POINTS, compile=True)
    one, other = checkpoint(plain)["state_dict"], checkpoint(compiled)["state_dict"]
    assert list(one) == list(other)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-3, atol=1e-3)
    losses = [[row["val_loss"] for row in history(folder)] for folder in (plain, compiled)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


LOADED = """
import json, sys, torch
assert not torch.cuda.is_available()
print(json.dumps(torch.export.load(sys.argv[1]).module()(torch.tensor(json.loads(sys.argv[2]))).tolist()))
"""


def test_what_was_trained_there_is_exported_for_machines_without_a_gpu(points, variant, script, tmp_path):
    place = variant("mine", data_loader=READING)
    folder = points(task="mine")
    assert script("train", "--model_dir", folder, path=place).status == 0
    assert "cuda" in read(folder, "run.json")["device"]
    rows = examples_of("test")[0][:5]
    (tmp_path / "new.csv").write_text("".join(f"{x!r},{y!r}\n" for x, y in rows.tolist()))
    words = ["--model_dir", folder, tmp_path / "new.csv", "--export", tmp_path / "model.pt2"]
    done = script("predict", *words, path=place)
    assert done.status == 0, done.stderr
    words = [sys.executable, "-I", "-c", LOADED, tmp_path / "model.pt2", json.dumps(rows.tolist())]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    loaded = subprocess.run(words, cwd="/", env=environment, capture_output=True, text=True, check=True)
    weights = checkpoint(folder, "best")["state_dict"]
    first, second = (
        functools.partial(torch.nn.functional.linear, weight=weights[f"{part}.weight"], bias=weights[f"{part}.bias"])
        for part in (0, 2)
    )
    expected = second(first(torch.from_numpy(rows).to(weights["0.bias"].device)).relu()).cpu()
    torch.testing.assert_close(torch.tensor(json.loads(loaded.stdout)), expected, rtol=1e-4, atol=1e-4)
