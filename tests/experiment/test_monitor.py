"""Which score decides, and which way: the rule by itself, and that whoever reads a folder finds what training chose."""

import json
import math
import random

import pytest

from engine.errors import UserError
from engine.experiment import choose_monitor, merit, plan_training, read_entry, usual_mode
from engine.experiment.monitor import recorded_monitor
from tests.support.made_runs import history_row, make_run, write


@pytest.mark.parametrize(
    ("monitor", "mode", "logged", "chosen"),
    [
        (None, None, ["f1", "accuracy", "loss"], ("accuracy", "max")),
        (None, None, ["f1", "loss"], ("loss", "min")),
        ("loss", None, ["accuracy", "loss"], ("loss", "min")),
        ("loss", "max", ["accuracy", "loss"], ("loss", "max")),
        ("f1", "max", ["f1", "loss"], ("f1", "max")),
    ],
)
def test_what_training_chooses(monitor, mode, logged, chosen):
    assert choose_monitor(monitor, mode, logged) == chosen


def test_a_score_that_is_not_there_or_of_unknown_direction_is_refused():
    with pytest.raises(UserError, match='"macro_f2" is not logged; logged are macro_f1, loss; did you mean "macro_f1"'):
        choose_monitor("macro_f2", "max", ["macro_f1", "loss"])
    with pytest.raises(UserError, match='"f1" needs "mode"'):
        choose_monitor("f1", None, ["f1", "loss"])


@pytest.mark.parametrize(
    ("record", "params", "logged", "found"),
    [
        ({"monitor": "heat", "mode": "min"}, {"monitor": "loss"}, [], ("heat", "min")),
        ({}, {"monitor": "heat", "mode": "max"}, [], ("heat", "max")),
        ({}, {"monitor": "val_rmse"}, [], ("val_rmse", "min")),
        ({}, {"monitor": "heat"}, [], ("heat", None)),
        ({}, {}, [], ("accuracy", "max")),
        ({}, {}, ["loss", "f1"], ("loss", "min")),
        ({"monitor": "accuracy", "mode": "upwards"}, {}, [], ("accuracy", "max")),
    ],
)
def test_what_a_reader_finds(record, params, logged, found):
    assert recorded_monitor(record, params, logged) == found


@pytest.mark.parametrize(
    ("metric", "mode"), [("macro_F1", "max"), ("mean-error", "min"), ("f1_loss", None), ("x", None)]
)
def test_the_name_of_a_score_may_tell_its_direction(metric, mode):
    assert usual_mode(metric) == mode


def test_a_missing_mode_is_told_before_anything_is_imported_and_a_slip_is_left_for_later(tmp_path):
    for monitor, said in (("f1", 'needs "mode"'), ("acuracy", None), ("loss", None)):
        write(tmp_path, "params.json", {"monitor": monitor, "data_dir": "none"})
        if said is None:
            assert plan_training(tmp_path).stage == "new"
        else:
            with pytest.raises(UserError, match=said):
                plan_training(tmp_path)


def test_an_old_folder_without_an_accuracy_is_compared_by_its_loss(tmp_path):
    write(tmp_path, "params.json", {"learning_rate": 0.1})
    write(tmp_path, "metrics_val_best_weights.json", {"f1": 0.7, "loss": 0.3})
    assert (read_entry(tmp_path).monitor, read_entry(tmp_path).score) == ("loss", 0.3)


def test_more_merit_is_better_and_nan_is_the_least():
    assert merit(0.9, 5.0, "max") > merit(0.8, 0.1, "max")
    assert merit(0.8, 0.1, "min") > merit(0.9, 0.1, "min")
    assert merit(0.9, 0.1, "max") > merit(0.9, 0.2, "max") > merit(0.9, math.nan, "max") == merit(0.9, None, "max")
    assert merit(math.nan, 0.0, "max") == merit(None, 0.0, "min") < merit(-1e300, math.inf, "max")


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("damaged", [False, True])
def test_of_equal_epochs_readers_take_the_one_that_training_keeps(tmp_path, mode, damaged):
    from torch import nn, optim

    from engine.training.metrics import Scores
    from engine.training.optimization import Schedule
    from engine.training.state import State

    draw = random.Random(1)
    for attempt in range(50):
        network = nn.Linear(1, 1)
        state = State(network, optim.SGD(network.parameters()), Schedule(), None, Scores({}))
        rows = []
        for epoch in range(1, 9):
            score, loss = draw.choice([0.25, 0.5, 0.75, None]), draw.choice([0.1, 0.2, None])
            state.finish_epoch(*(math.nan if value is None else value for value in (score, loss)), mode)
            rows.append(history_row(epoch, score) | {"val_loss": loss})
        folder = make_run(tmp_path / f"{attempt}", history=rows, monitor="accuracy", mode=mode)
        if damaged:
            with (folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(rows[-1])[:20])
        finite = [row for row in rows if row["val_accuracy"] is not None]
        chosen = (max if mode == "max" else min)((row["val_accuracy"] for row in finite), default=None)
        equals = [row for row in finite if row["val_accuracy"] == chosen]
        losses = [math.inf if row["val_loss"] is None else row["val_loss"] for row in equals]
        by_hand = max(
            (row["epoch"] for row, loss in zip(equals, losses, strict=True) if loss == min(losses)), default=0
        )
        assert state.best_epoch == (read_entry(folder).best_epoch or 0) == by_hand
