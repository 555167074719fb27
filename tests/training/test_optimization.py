"""The optimizer is the one that is meant: fused where nothing can tell the difference, and over the network alone."""

import numpy as np
import pytest
import torch
from torch import nn, optim
from torch.optim.lr_scheduler import (
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

from engine.errors import UserError
from engine.training.checkpoint import read_checkpoint, write_checkpoint
from engine.training.optimization import (
    Schedule,
    fuse_where_sound,
    make_optimizer,
    make_schedule,
    own_optimizer,
    own_schedule,
    set_training_mode,
)


def stepped(optimizer, model, inputs):
    optimizer.zero_grad()
    model(inputs).sum().backward()
    optimizer.step()
    return [group["fused"] for group in optimizer.param_groups]


class Branches(nn.Module):
    """Two layers, of which the second is used only where it is asked for."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 2), nn.Linear(3, 2)
        self.both = True

    def forward(self, inputs):
        return self.first(inputs) + self.second(inputs) if self.both else self.first(inputs)


def transposed():
    layer = nn.Linear(3, 2)
    layer.weight = nn.Parameter(torch.randn(3, 2).T)
    return layer


def with_frozen():
    return nn.Sequential(nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 2))


# Fused


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD"])
def test_steps_are_fused_where_every_parameter_has_a_gradient_laid_out_as_it_is(name):
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    assert stepped(make_optimizer(name, model, 0.1), model, torch.randn(5, 3)) == [True]


def test_steps_are_fused_in_the_layout_of_convolutions_too():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)).to(memory_format=torch.channels_last)
    inputs = torch.randn(2, 3, 5, 5).to(memory_format=torch.channels_last)
    assert stepped(make_optimizer("SGD", model, 0.1), model, inputs) == [True]


@pytest.mark.parametrize("make", [transposed, with_frozen], ids=["transposed", "a frozen part"])
def test_steps_are_torchs_own_where_memory_or_gradients_have_gaps(make):
    model = make()
    assert stepped(make_optimizer("Adam", model, 0.1), model, torch.randn(5, 3)) == [None]


def test_what_the_first_step_decided_holds_for_a_run_that_goes_on():
    model = Branches()
    model.both = False
    optimizer = make_optimizer("SGD", model, 0.1)
    assert stepped(optimizer, model, torch.randn(5, 3)) == [None]
    model.both = True
    again = make_optimizer("SGD", model, 0.1)
    again.load_state_dict(optimizer.state_dict())
    for either in (optimizer, again):
        assert stepped(either, model, torch.randn(5, 3)) == [None]


def test_a_gradient_that_is_missing_later_is_no_fault_of_a_fused_step():
    model, inputs = Branches(), torch.randn(5, 3)
    optimizer = make_optimizer("SGD", model, 0.1, momentum=0.9)
    assert stepped(optimizer, model, inputs) == [True]
    model.both = False
    before = model.second.weight.clone()
    stepped(optimizer, model, inputs)
    assert torch.equal(model.second.weight, before)
    model.both = True
    stepped(optimizer, model, inputs)
    assert not torch.equal(model.second.weight, before)


def test_a_hook_of_the_tasks_own_is_no_hindrance():
    model, seen = nn.Linear(3, 2), []
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    fuse_where_sound(optimizer)
    optimizer.register_step_pre_hook(lambda *_: seen.append(1))
    stepped(optimizer, model, torch.randn(5, 3))
    stepped(optimizer, model, torch.randn(5, 3))
    assert len(seen) == 2


# Modes


def test_only_frozen_batch_norms_stay_in_evaluation_mode():
    class Custom(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3), requires_grad=False)
            self.register_buffer("running_mean", torch.zeros(3))

    frozen = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(), nn.BatchNorm1d(3, affine=False), Custom())
    frozen.requires_grad_(False)
    half = nn.BatchNorm1d(3)
    half.weight.requires_grad_(False)
    model = nn.Sequential(frozen, half, nn.InstanceNorm1d(3, affine=True, track_running_stats=True))
    model.eval()
    set_training_mode(model)
    in_evaluation = [name for name, module in model.named_modules() if not module.training]
    assert in_evaluation == ["0.1", "0.4"]


# The task's own


def test_own_optimizer_and_schedule_are_taken_as_they_are():
    model = nn.Linear(3, 2)
    made = optim.SGD(model.parameters(), lr=0.1)
    assert own_optimizer(lambda model, params: made, model, None) is made
    scheduler = OneCycleLR(made, 0.1, 10)
    schedule = own_schedule(lambda optimizer, params, total: (scheduler, "step"), made, None, 10)
    assert (schedule.scheduler, schedule.unit) == (scheduler, "step")


class Sharp(optim.Optimizer):
    """Looks for a flat minimum, and computes the loss twice in each step."""

    def step(self, closure):
        raise AssertionError


@pytest.mark.parametrize(
    ("made", "form"),
    [
        (lambda model: {"net": optim.SGD(model.parameters(), lr=1.0)}, "a dict of 1"),
        (lambda model: [optim.SGD(model.parameters(), lr=1.0)] * 2, "a list of 2"),
        (lambda model: (optim.SGD(model.parameters(), lr=1.0), None), "a tuple of 2"),
        (lambda model: None, "None"),
        (lambda model: optim.LBFGS(model.parameters()), '"LBFGS" computes the loss many times'),
        (
            lambda model: optim.SGD([*model.parameters(), nn.Parameter(torch.ones(4, 7))], lr=1.0),
            r"1 parameters that are not in Net \(of shape \(4, 7\)\).*make what they belong to",
        ),
        (lambda model: Sharp(model.parameters(), {"lr": 0.1}), "a Sharp needs a closure in each step"),
    ],
    ids=["dict", "list", "pair", "nothing", "LBFGS", "parameters from elsewhere", "a closure"],
)
def test_an_optimizer_that_cannot_be_trained_with_is_refused(made, form):
    with pytest.raises(UserError, match=f"configure_optimizer.*{form}"):
        own_optimizer(lambda model, params: made(model), nn.Linear(3, 2), None)


@pytest.mark.parametrize(
    ("made", "form"),
    [
        (lambda optimizer: LambdaLR(optimizer, lambda step: 1.0), 'return .scheduler, "step" or "epoch".* a LambdaLR'),
        (lambda optimizer: (LambdaLR(optimizer, lambda step: 1.0),), "a tuple of 1"),
        (lambda optimizer: None, "None"),
        (lambda optimizer: ("step", LambdaLR(optimizer, lambda step: 1.0)), "a tuple of 2"),
        (lambda optimizer: (LambdaLR(optimizer, lambda step: 1.0), "steps"), 'counts "step" or "epoch", not "steps"'),
        (lambda optimizer: (LambdaLR(optimizer, abs), "step"), "cannot be saved"),
    ],
    ids=["alone", "a tuple", "nothing", "turned around", "another unit", "a function of C"],
)
def test_a_scheduler_of_another_form_is_one_line(made, form):
    optimizer = optim.SGD(nn.Linear(3, 2).parameters(), lr=1.0)
    with pytest.raises(UserError, match=form):
        own_schedule(lambda optimizer, params, total: made(optimizer), optimizer, None, 10)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_a_plateau_goes_the_way_of_the_score_that_is_monitored(mode):
    optimizer, by_hand = (optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0) for _ in range(2))
    schedule, torchs = make_schedule("plateau", optimizer, 0, 100), ReduceLROnPlateau(by_hand, mode)
    for epoch in range(30):
        score = 0.9 - 0.01 * epoch
        schedule.after_epoch(score, mode)
        torchs.step(score)
        if epoch == 7:  # a run that goes on
            state = schedule.state_dict()
            schedule = make_schedule("plateau", optimizer, 0, 100)
            schedule.load_state_dict(state)
        assert optimizer.param_groups[0]["lr"] == by_hand.param_groups[0]["lr"]
    assert (optimizer.param_groups[0]["lr"] < 1) == (mode == "max")


def test_a_plateau_of_the_tasks_own_keeps_its_direction():
    optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    scheduler = ReduceLROnPlateau(optimizer, "min")
    schedule = Schedule(scheduler, "epoch")
    schedule.after_epoch(0.5, "max")
    assert (schedule.scheduler, schedule.scheduler.mode) == (scheduler, "min")


def test_functions_that_a_scheduler_holds_are_not_saved():
    class Own(LambdaLR):
        def __init__(self, optimizer):
            self.shape, self.shapes = lambda x: x, [abs, min]
            super().__init__(optimizer, lambda step: 0.5**step)

    def made():
        optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
        return own_schedule(lambda optimizer, *_: (Own(optimizer), "step"), optimizer, None, 10)

    schedule, again = made(), made()
    schedule.scheduler.step()
    again.load_state_dict(schedule.state_dict())
    assert again.scheduler.last_epoch == 1
    assert again.scheduler.shape(3) == 3
    cyclic = Schedule(CyclicLR(optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1), 0.1, 1.0, scale_fn=lambda x: 1.0))
    assert not any(callable(value) for value in cyclic.state_dict().values())


class GradualWarmup(LRScheduler):
    """As it is published and copied from project to project: it holds the scheduler for after the warm-up."""

    def __init__(self, optimizer, total, after):
        self.total, self.after_scheduler, self.finished = total, after, False
        super().__init__(optimizer)

    def get_lr(self):
        if self.last_epoch > self.total:
            self.finished = True
            return self.after_scheduler.get_last_lr()
        return [base * self.last_epoch / self.total for base in self.base_lrs]

    def step(self):
        if self.finished:
            self.after_scheduler.step()
            self._last_lr = self.after_scheduler.get_last_lr()
        else:
            super().step()


@pytest.mark.parametrize("inner", [lambda o: ExponentialLR(o, 0.8), lambda o: GradualWarmup(o, 1, StepLR(o, 2, 0.5))])
@pytest.mark.parametrize("stop", [2, 6])
def test_a_scheduler_that_holds_another_goes_on_from_a_checkpoint(tmp_path, inner, stop):
    def made():
        optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
        scheduler = GradualWarmup(optimizer, 3, inner(optimizer))
        return optimizer, own_schedule(lambda *_: (scheduler, "step"), optimizer, None, 12)

    def rates_of(optimizer, schedule, steps):
        for _ in range(steps):
            optimizer.step()
            schedule.after_step()
            yield optimizer.param_groups[0]["lr"]

    (optimizer, schedule), (again, resumed) = made(), made()
    list(rates_of(optimizer, schedule, stop))
    content = {"state_dict": {}, "optim_dict": optimizer.state_dict(), "schedule": schedule.state_dict()}
    write_checkpoint(content, False, tmp_path)
    content = read_checkpoint(tmp_path / "last.pth.tar")
    again.load_state_dict(content["optim_dict"])
    resumed.load_state_dict(content["schedule"])
    rates = list(rates_of(optimizer, schedule, 6))
    assert list(rates_of(again, resumed, 6)) == rates
    assert len(set(rates)) > 2


@pytest.mark.parametrize("unit", ["step", "epoch"])
def test_a_scheduler_that_was_made_for_fewer_steps_is_one_line(unit):
    optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    schedule = own_schedule(lambda *_: (OneCycleLR(optimizer, 0.1, total_steps=2), unit), optimizer, None, 9)
    optimizer.step()
    with pytest.raises(UserError, match=r"configure_scheduler: Tried to step 3 times\. .*total_steps is how many"):
        for _ in range(3):
            schedule.after_step()
            schedule.after_epoch(0.5, "max")


COSINE = pytest.param(np.cos, marks=pytest.mark.skipif(not hasattr(np.cos, "__dict__"), reason="NumPy 1: as with abs"))


@pytest.mark.parametrize(
    "factor", [COSINE, lambda step: np.float32(0.5) ** step, lambda step: torch.tensor(0.5) ** step]
)
def test_a_schedule_in_numbers_of_numpy_or_torch_goes_on_from_a_checkpoint(tmp_path, factor):
    def made():
        optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
        return optimizer, own_schedule(lambda *_: (LambdaLR(optimizer, factor), "step"), optimizer, None, 10)

    (optimizer, schedule), (again, resumed) = made(), made()
    optimizer.step()
    for _ in range(3):
        schedule.after_step()
    content = {"state_dict": {}, "optim_dict": optimizer.state_dict(), "schedule": schedule.state_dict()}
    write_checkpoint(content, False, tmp_path)
    content = read_checkpoint(tmp_path / "last.pth.tar")
    again.load_state_dict(content["optim_dict"])
    resumed.load_state_dict(content["schedule"])
    again.step()
    for either in (schedule, resumed):
        either.after_step()
    one, other = optimizer.param_groups[0]["lr"], again.param_groups[0]["lr"]
    assert (type(one), float(one)) == (type(other), float(other))
