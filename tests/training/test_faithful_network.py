"""The network is taken as it is: what the engine trains is what a plain loop trains, and it comes back as it was."""

import json
import math

import pytest
import torch
from torch import optim
from torch.nn.functional import cross_entropy

import evaluate
import train
from tests.projects.odd_networks import data_loader
from tests.projects.odd_networks.net import NETS
from tests.support.folders import checkpoint, history, read, same, same_results
from tests.support.plain_loop import mean_loss, train_plainly

SEED, EPOCHS, BATCH_SIZE = 230, 3, 4  # 6 batches, the last one of 2
PARAMS = {
    "task": "tests.projects.odd_networks",
    "data_dir": "none",
    "device": "cpu",
    "batch_size": BATCH_SIZE,
    "num_epochs": EPOCHS,
    "learning_rate": 0.05,
    "optimizer": "SGD",
    "momentum": 0.9,
}
SGD = {"momentum": 0.9}
KINDS = {  # name of the network -> what it is trained with, by the engine's params and by hand
    "plain, Adam": ("plain", "Adam", {}),
    "plain, SGD": ("plain", "SGD", SGD),
    "dropout beside a frozen parameter": ("dropout beside a frozen parameter", "Adam", {}),
    "frozen batch norm": ("frozen batch norm", "Adam", {}),
    "frozen part": ("frozen part", "SGD", SGD),
    "slice, Adam": ("slice", "Adam", {}),
    "slice, SGD": ("slice", "SGD", SGD),
    "sparse, SGD": ("sparse", "SGD", {"momentum": 0.0}),
    "sparse, Adagrad": ("sparse", "Adagrad", {}),
    "sparse, SparseAdam": ("sparse", "SparseAdam", {}),
    "sparse by the call": ("sparse by the call", "SGD", {"momentum": 0.0}),
    "seldom, SGD": ("seldom", "SGD", SGD),
    "seldom, AdamW": ("seldom", "AdamW", {"weight_decay": 0.1}),
    "old weight norm": ("old weight norm", "Adam", {}),
    "weight norm": ("weight norm", "SGD", SGD),
    "spectral norm": ("spectral norm", "SGD", SGD),
    "old spectral norm": ("old spectral norm", "SGD", SGD),
    "masked": ("masked", "Adam", {}),
    "lazy": ("lazy", "SGD", SGD),
    "extra state": ("extra state", "Adam", {}),
    "thawing, SGD": ("thawing", "SGD", SGD),
    "thawing, Adam": ("thawing", "Adam", {"weight_decay": 0.1}),
    "learned loss": ("learned loss", "Adam", {}),
    "shared": ("shared", "Adam", {}),
    "batch norm": ("batch norm", "Adam", {}),
    "complex": ("complex", "Adam", {}),
    "recomputed": ("recomputed", "SGD", SGD),
    "binary": ("binary", "Adam", {}),
    "slopes": ("slopes", "SGD", SGD),
    "double": ("double", "AdamW", {}),
    "orthogonal": ("orthogonal", "SGD", SGD),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def frozen_norm_stays(model):
    """What one writes into a loop of one's own where a batch norm is frozen."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d) and module.affine and not module.weight.requires_grad:
            module.eval()


def by_hand(kind, **options):
    net, name, arguments = KINDS[kind]
    return train_plainly(
        NETS[net],
        lambda model: getattr(optim, name)(model.parameters(), lr=PARAMS["learning_rate"], **arguments),
        data_loader.batches("train", BATCH_SIZE),
        cross_entropy,
        EPOCHS,
        SEED,
        frozen_norm_stays,
        **options,
    )


@pytest.fixture
def engine(tmp_path):
    """Trains a kind by the engine: `engine(kind, "name", save_steps=3)`; returns the folder."""

    def run(kind, name="run", **params):
        net, optimizer, arguments = KINDS[kind]
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        values = {**PARAMS, "momentum": None, "net": net, "optimizer": optimizer, **arguments, **params}
        (folder / "params.json").write_text(json.dumps(values))
        train.main(["--model_dir", str(folder)])
        return folder

    return run


def assert_same_weights(ours, theirs):
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")
        else:
            assert ours[name] == value


@every_kind
def test_the_engine_trains_what_a_plain_loop_trains(engine, kind):
    folder, plain = engine(kind), by_hand(kind)
    assert_same_weights(checkpoint(folder)["state_dict"], plain.model.state_dict())
    assert [row["train_loss"] for row in history(folder)] == pytest.approx(plain.losses, rel=1e-4)
    val_loss = mean_loss(plain.model, data_loader.batches("val", BATCH_SIZE), cross_entropy)
    assert history(folder)[-1]["val_loss"] == pytest.approx(val_loss, rel=1e-4)
    evaluate.main(["--model_dir", str(folder), "--split", "val", "--restore_file", "last"])
    assert read(folder, "metrics_val_last.json")["loss"] == history(folder)[-1]["val_loss"]


@every_kind
def test_a_run_that_was_stopped_within_an_epoch_ends_the_same(engine, kind, monkeypatch):
    whole = engine(kind, "whole")
    monkeypatch.setattr(data_loader, "stop_in", 9)  # the third batch of the second epoch
    with pytest.raises(SystemExit):
        engine(kind, "stopped")
    assert same_results(engine(kind, "stopped"), whole)


AVERAGED = [kind for kind in KINDS if kind != "lazy"]


@pytest.mark.parametrize("kind", AVERAGED)
def test_averaged_weights_are_those_of_a_plain_loop(engine, kind):
    decay = 0.6
    content, plain = checkpoint(engine(kind, ema_decay=decay)), by_hand(kind, decay=decay)
    assert_same_weights(content["training_state_dict"], plain.model.state_dict())
    ours = NETS[KINDS[kind][0]]()
    ours.load_state_dict(content["state_dict"])
    for (name, weight), average in zip(ours.named_parameters(), plain.average, strict=True):
        finite = weight.isfinite()
        torch.testing.assert_close(weight[finite], average[finite].to(weight), rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    "kind", ["masked", "extra state", "spectral norm", "old spectral norm", "thawing, SGD", "shared"]
)
def test_what_has_no_mean_is_what_it_is_in_the_network(engine, kind):
    folder = engine(kind, ema_decay=0.6)
    content = checkpoint(folder)
    parameters = {name for name, _ in NETS[KINDS[kind][0]]().named_parameters(remove_duplicate=False)}
    others = [name for name in content["state_dict"] if name not in parameters]
    assert others or kind == "shared"
    for name in others:
        assert same(content["state_dict"][name], content["training_state_dict"][name])
    assert all(math.isfinite(row["val_loss"]) for row in history(folder))
    if "spectral" in kind:
        model = NETS[KINDS[kind][0]]()
        model.load_state_dict(content["state_dict"])
        model.eval()(torch.zeros(1, 5))
        assert torch.linalg.matrix_norm(model[1].weight, 2).item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("kind", ["plain, SGD", "sparse, SGD", "slice, SGD", "learned loss", "weight norm", "masked"])
def test_accumulated_batches_are_one_batch_of_a_plain_loop(engine, kind):
    net, name, arguments = KINDS[kind]
    plain = train_plainly(
        NETS[net],
        lambda model: getattr(optim, name)(model.parameters(), lr=PARAMS["learning_rate"], **arguments),
        data_loader.batches("train", 2 * BATCH_SIZE),
        cross_entropy,
        EPOCHS,
        SEED,
    )
    assert_same_weights(checkpoint(engine(kind, accumulate=2))["state_dict"], plain.model.state_dict())
