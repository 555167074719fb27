"""Several optimizers that step as one: what each of them does alone, side by side in a plain loop."""

import copy

import pytest
import torch
from torch import nn, optim
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from engine.errors import UserError
from engine.training import Together, own_optimizer
from tests.projects.odd_networks import data_loader
from tests.projects.odd_networks.net import NETS
from tests.support.folders import checkpoint, history, same, same_results
from tests.support.training import train_in

EPOCHS, STEPS, BATCH_SIZE, SEED = 3, 6, 4, 230
PARAMS = {
    "task": "tests.projects.odd_networks",
    "data_dir": "none",
    "device": "cpu",
    "net": "plain",
    "batch_size": BATCH_SIZE,
    "num_epochs": EPOCHS,
    "schedule": "linear",
    "seed": SEED,
}


def two(model):
    """Muon for the matrices, SGD for the rest, which has two groups."""
    matrices = [weight for weight in model.parameters() if weight.dim() == 2]
    first, *rest = [weight for weight in model.parameters() if weight.dim() < 2]
    groups = [{"params": [first], "lr": 0.3}, {"params": rest, "weight_decay": 0.1}]
    return optim.Muon(matrices, lr=0.02, ns_steps=3), optim.SGD(groups, lr=0.1, momentum=0.9)


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """Trains by the engine with both together: `engine("name", precision="float16")`; returns the folder."""

    def configure_optimizer(model, params):
        return Together(*two(model))

    path = "tests.projects.odd_networks.net.configure_optimizer"
    monkeypatch.setattr(path, configure_optimizer, raising=False)

    return lambda name="run", **params: train_in(tmp_path / name, PARAMS | params)


def test_they_train_what_each_trains_by_hand_under_one_schedule(engine):
    torch.manual_seed(SEED)
    model = NETS["plain"]()
    muon, sgd = two(model)
    schedules = [LambdaLR(optimizer, lambda step: 1 - step / (EPOCHS * STEPS)) for optimizer in (muon, sgd)]
    for inputs, labels in data_loader.batches("train", BATCH_SIZE) * EPOCHS:
        model.zero_grad()
        cross_entropy(model(inputs), labels).backward()
        for part in (muon, sgd, *schedules):
            part.step()
    folder = engine()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(checkpoint(folder)["state_dict"][name], weight)
    assert [row["learning_rate"] for row in history(folder)] == pytest.approx([0.02, 0.02 * 2 / 3, 0.02 / 3])


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_run_that_was_stopped_within_an_epoch_ends_the_same(engine, monkeypatch, precision):
    whole = engine("whole", precision=precision)
    monkeypatch.setattr(data_loader, "stop_in", 9)
    with pytest.raises(SystemExit):
        engine("stopped", precision=precision)
    assert same_results(engine("stopped", precision=precision), whole)


def test_a_checkpoint_holds_what_each_keeps():
    model = NETS["plain"]()
    muon, sgd = two(model)
    together = Together(muon, sgd)
    model(torch.ones(2, 5)).sum().backward()
    together.step()
    kept = copy.deepcopy(together.state_dict())
    assert same(kept, {"optimizers": [muon.state_dict(), sgd.state_dict()]})
    again = Together(*two(model))
    again.load_state_dict(kept)
    assert same(again.state_dict(), kept)


def test_what_is_set_for_a_group_of_all_holds_for_the_optimizer_whose_it_is():
    model = NETS["plain"]()
    together = Together(*two(model))
    together.load_state_dict(together.state_dict())  # which makes the groups of the two anew
    for number, group in enumerate(together.param_groups):
        group["lr"] = float(number)
    assert [[group["lr"] for group in part.param_groups] for part in together.optimizers] == [[0.0], [1.0, 2.0]]


def test_a_hook_of_one_of_them_is_called_and_gradients_of_all_are_cleared():
    model, seen = NETS["plain"](), []
    muon, sgd = two(model)
    muon.register_step_pre_hook(lambda *_: seen.append(1))
    together = Together(muon, sgd)
    model(torch.ones(2, 5)).sum().backward()
    together.step()
    together.zero_grad()
    assert seen == [1]
    assert all(weight.grad is None for weight in model.parameters())


def test_a_closure_is_called_once_with_gradients():
    weights = [nn.Parameter(torch.ones(1)) for _ in range(2)]
    together = Together(*(optim.SGD([weight], lr=1.0) for weight in weights))
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        loss = sum(weights)
        loss.backward()
        return loss.item()

    with torch.no_grad():
        assert together.step(closure) == 2
    assert calls == [True]
    assert [weight.item() for weight in weights] == [0.0, 0.0]


def test_a_weight_belongs_to_one_of_them():
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="more than one parameter group"):
        Together(optim.SGD(model.parameters(), lr=1.0), optim.Adam([model.bias]))


@pytest.mark.parametrize("whose", ["all", "one"])
def test_a_group_that_is_added_later_is_refused_before_anything_is_saved(whose):
    model = NETS["plain"]()
    muon, sgd = two(model)
    together = Together(muon, sgd)
    (together if whose == "all" else sgd).add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": 1.0})
    with pytest.raises(UserError, match="all of its groups from the start"):
        together.state_dict()


def test_lbfgs_is_refused_in_company_too():
    layer = nn.Linear(2, 2)
    together = Together(optim.SGD([layer.weight], lr=1.0), optim.LBFGS([layer.bias]))
    with pytest.raises(UserError, match="many times in each step"):
        own_optimizer(lambda model, params: together, layer, None)


def test_several_in_a_list_are_told_how_to_be_together():
    layer = nn.Linear(2, 2)
    several = [optim.SGD([layer.weight], lr=1.0), optim.SGD([layer.bias], lr=1.0)]
    with pytest.raises(UserError, match=r"a list of 2; several .*Together\(one, other\)"):
        own_optimizer(lambda model, params: several, layer, None)
