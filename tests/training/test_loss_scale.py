"""Float16: the loss is scaled as a loop by hand does it, and a step whose gradients overflow is none."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

import evaluate
from engine.errors import UserError
from engine.training.device import best_precision, choose_device
from engine.training.loss_scale import LossScale
from tests.projects.odd_networks import data_loader
from tests.projects.odd_networks.net import NETS
from tests.support.folders import checkpoint, history, read, same, same_results
from tests.support.training import train_in

EPOCHS, STEPS, BATCH_SIZE, RATE, DECAY, NORM = 4, 6, 4, 0.05, 0.6, 1.0
PARAMS = {
    "task": "tests.projects.odd_networks",
    "data_dir": "none",
    "device": "cpu",
    "precision": "float16",
    "net": "batch norm",
    "batch_size": BATCH_SIZE,
    "num_epochs": EPOCHS,
    "optimizer": "SGD",
    "momentum": 0.9,
    "learning_rate": RATE,
    "schedule": "linear",
    "ema_decay": DECAY,
    "grad_clip": NORM,
}


def steep(outputs, labels):
    """A loss whose gradients, times 2 ** 16, are beyond float16."""
    return 40 * cross_entropy(outputs, labels)


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """Trains by the engine: `engine("name", save_steps=3)`; returns the folder."""

    monkeypatch.setattr("tests.projects.odd_networks.net.loss_fn", steep)

    return lambda name="run", **params: train_in(tmp_path / name, PARAMS | params)


def by_hand():
    """The same without the engine and without GradScaler: (weights, their average, steps taken, factor)."""
    torch.manual_seed(230)
    model = NETS["batch norm"]()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, fused=True)  # to round alike
    schedule = LambdaLR(optimizer, lambda step: 1 - step / (EPOCHS * STEPS))
    average, taken, factor = [], 0, 2.0**16
    for inputs, labels in data_loader.batches("train", BATCH_SIZE) * EPOCHS:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = steep(model(inputs), labels)
        (loss * factor).backward()
        if not all(weight.grad.isfinite().all() for weight in model.parameters()):
            factor /= 2
            continue
        for weight in model.parameters():
            weight.grad /= factor
        torch.nn.utils.clip_grad_norm_(model.parameters(), NORM)
        optimizer.step()
        schedule.step()
        weights = [weight.detach().double() for weight in model.parameters()]
        keep = min(DECAY, (1 + taken) / (10 + taken))
        average = [keep * a + (1 - keep) * w for a, w in zip(average or weights, weights, strict=True)]
        taken += 1
    return model.state_dict(), average, taken, factor


def test_steps_that_overflow_move_neither_weights_nor_average_nor_schedule_nor_count(engine):
    weights, average, taken, factor = by_hand()
    assert 0 < taken < EPOCHS * STEPS  # some were left out
    content = checkpoint(engine())
    assert (content["step"], content["loss_scale"]["scale"]) == (taken, factor)
    assert content["schedule"]["last_epoch"] == taken
    for name, value in weights.items():
        torch.testing.assert_close(content["training_state_dict"][name], value)
    names = [name for name, _ in NETS["batch norm"]().named_parameters()]
    for name, value in zip(names, average, strict=True):
        torch.testing.assert_close(content["state_dict"][name], value.float())


@pytest.mark.parametrize("batch", [2, 9])  # among those that are left out, and after them
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_that_was_stopped_ends_the_same(engine, monkeypatch, batch, accumulate):
    whole = engine("whole", accumulate=accumulate)
    monkeypatch.setattr(data_loader, "stop_in", batch)
    with pytest.raises(SystemExit):
        engine("stopped", accumulate=accumulate)
    assert checkpoint(whole.parent / "stopped")["loss_scale"]["scale"] < 2.0**16
    assert same_results(engine("stopped", accumulate=accumulate), whole)


def test_what_is_scored_in_training_is_what_evaluation_scores(engine):
    folder = engine()
    assert "float16" in read(folder, "run.json")["device"]
    evaluate.main(["--model_dir", str(folder), "--split", "val", "--restore_file", "last"])
    assert read(folder, "metrics_val_last.json")["loss"] == history(folder)[-1]["val_loss"]


def test_a_fused_optimizer_of_the_tasks_own_leaves_the_same_steps_out(engine, monkeypatch):
    def configure(model, params):
        return torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, fused=True)

    plain = checkpoint(engine("plain"))
    monkeypatch.setattr("tests.projects.odd_networks.net.configure_optimizer", configure, raising=False)
    fused = checkpoint(engine("fused"))
    assert (fused["step"], fused["loss_scale"]) == (plain["step"], plain["loss_scale"])
    assert same(fused["state_dict"], plain["state_dict"])


def test_gradients_that_never_are_numbers_end_the_run(engine, monkeypatch):
    def loss_fn(outputs, labels):
        return steep(outputs, labels) + (outputs.float() * 0).pow(0.5).sum()  # whose slope at 0 has no end

    monkeypatch.setattr("tests.projects.odd_networks.net.loss_fn", loss_fn)
    told = r'the gradients are no longer a finite number: epoch 6, batch 1, .*"precision": "float32"'
    with pytest.raises(UserError, match=told):  # 2**16 has been halved 31 times
        engine(num_epochs=9)


def test_the_factor_rises_after_two_thousand_steps_that_were_stopped_in_between():
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1e-9)
    first, second = (LossScale(enabled=True) for _ in range(2))
    for scale, steps in ((first, 1999), (second, 1)):
        for _ in range(steps):
            optimizer.zero_grad()
            scale.scale(weight.sum()).backward()
            scale.unscale(optimizer)
            assert weight.grad.item() == 1
            assert scale.step(optimizer)
        second.load_state_dict(first.state_dict()) if scale is first else None
    assert first.state_dict()["scale"] == 2.0**16
    assert second.state_dict()["scale"] == 2.0**17


def test_nothing_is_scaled_in_any_other_precision():
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scale = choose_device("cpu", "bfloat16").loss_scale()
    loss = (weight * math.inf).sum()
    assert scale.scale(loss) is loss
    loss.backward()
    scale.unscale(optimizer)
    assert scale.step(optimizer)
    assert weight.item() == -math.inf
    assert scale.state_dict() == {}


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((6, 1), "float32"), ((7, 0), "float16"), ((7, 5), "float16"), ((8, 0), "bfloat16"), ((12, 0), "bfloat16")],
)
def test_auto_on_a_gpu_is_what_its_generation_is_fast_in(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert best_precision(torch.device("cuda")) == expected


def test_a_checkpoint_of_an_earlier_version_that_knew_no_factor_goes_on(engine, monkeypatch, tmp_path):
    whole = engine("whole", precision="float32")
    monkeypatch.setattr(data_loader, "stop_in", 9)
    with pytest.raises(SystemExit):
        engine(precision="float32")
    path = tmp_path / "run/last.pth.tar"
    content = torch.load(path, weights_only=True)
    del content["loss_scale"]
    torch.save(content, path)
    assert same_results(engine(precision="float32"), whole)
    assert "of another version of train.py, has no loss_scale" in (tmp_path / "run/train.log").read_text()
