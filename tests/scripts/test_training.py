"""Training, through `train.py` and `evaluate.py` as one types them."""

import csv
import json
import math
import sys

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from engine.errors import UserError
from engine.training.averaging import average_of
from engine.training.checkpoint import read_checkpoint
from engine.training.metrics import Scores
from engine.training.optimization import Schedule, learning_rate_factor, make_optimizer
from engine.training.state import State
from tests.projects.points.data_loader import points as points_of
from tests.support import scripts
from tests.support.folders import checkpoint, contents, history, read, same, same_results


@pytest.fixture
def train(script):
    """Trains to the end: `train(folder, "--fresh")`; returns the folder."""

    def run(folder, *words, **options):
        done = script("train", "--model_dir", folder, *words, **options)
        assert done.status == 0, done.stderr
        return folder

    return run


def distance(one, other):
    """How far two runs' weights are from each other."""
    weights = [torch.cat([w.flatten() for w in checkpoint(run)["state_dict"].values()]) for run in (one, other)]
    return (weights[0] - weights[1]).norm().item()


# The same again


EVERYTHING = {
    "schedule": "onecycle",
    "optimizer": "SGD",
    "momentum": 0.9,
    "accumulate": 2,
    "ema_decay": 0.9,
    "grad_clip": 1,
    "steps_per_epoch": 5,
}


def test_two_runs_are_bit_identical_and_a_third_with_another_seed_is_not(points, train):
    first, second = train(points("first", **EVERYTHING)), train(points("second", **EVERYTHING))
    third = train(points("third", **EVERYTHING, seed=1))
    assert same_results(first, second)
    assert distance(first, third) > 0.01


def test_the_first_weights_follow_from_the_seed_and_not_from_the_loader(points, variant, train):
    still = {"learning_rate": 0, "num_epochs": 1}
    code = "def fetch_dataloader(types, data_dir, params, fetch=fetch_dataloader):\n"
    code += "    import torch\n    torch.rand(1)\n    return fetch(types, data_dir, params)\n"
    path = variant("greedy", data_loader=code)
    greedy = train(points("greedy", task="greedy", **still), path=path)
    assert distance(train(points("modest", **still)), greedy) == 0


@pytest.mark.parametrize("end", ["raise KeyboardInterrupt", "raise OSError('disk')", "os.kill(os.getpid(), 9)"])
def test_a_run_that_was_stopped_goes_on_to_the_same_end(points, variant, script, train, tmp_path, end):
    net = f"""
import os
from pathlib import Path

calls = []

def accuracy(outputs, labels, plain=accuracy):
    calls.append(1)
    marker = Path("{(tmp_path / "stopped").as_posix()}")
    if len(calls) == 48 and not marker.exists():
        marker.touch()
        {end}
    return plain(outputs, labels)

metrics = {{"accuracy": accuracy}}
"""
    path = variant("fragile", net=net)
    early_best = {"monitor": "loss", "mode": "max"}  # so that it lies before the stop
    params = {"task": "fragile", "num_epochs": 5, "batch_size": 32, **EVERYTHING, **early_best}
    stopped, whole = points("stopped_run", **params), points("whole_run", **params)
    assert script("train", "--model_dir", stopped, path=path).status != 0
    assert 0 < len(history(stopped)) < 5
    assert read(stopped, "status.json")["state"] == {"r": "failed", "o": "running"}[end[0]] or "Keyboard" in end
    train(stopped, path=path)
    train(whole, path=path)
    assert same_results(stopped, whole)
    assert read(stopped, "status.json")["state"] == "finished"
    assert len(read(stopped, "run.json")["continued"]) == 1


def test_an_epoch_that_the_checkpoint_does_not_know_is_not_logged_twice(points, variant, script, train, tmp_path):
    whole, stopped = train(points("whole", num_epochs=3)), points("stopped", num_epochs=3)
    call = scripts.call(stop_after_first_epoch, ["--model_dir", str(stopped)])
    assert call == 1
    with (stopped / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"epoch": 2, "val_loss": 0.0}) + "\n")
    train(stopped)
    assert same_results(stopped, whole)


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_again(points, train):
    whole, stopped = train(points("whole")), train(points("stopped"))
    for name in ("last.pth.tar", "best.pth.tar"):
        (stopped / name).unlink()
    state = {**read(stopped, "status.json"), "state": "running"}
    (stopped / "status.json").write_text(json.dumps(state))
    train(stopped)
    assert same_results(stopped, whole)


def stop_after_first_epoch(words, path=None):
    import train

    sys.path[:0] = [] if path is None else [str(path)]

    def hook(epoch, scores):
        assert set(scores) == {"accuracy", "loss"}
        raise RuntimeError("enough")

    train.main(words, on_epoch=hook)


# Steps


@pytest.mark.parametrize(
    ("name", "warmup", "factors"),
    [
        ("constant", 0, [1, 1, 1, 1, 1]),
        ("constant", 2, [1 / 3, 2 / 3, 1, 1, 1]),
        ("linear", 0, [1, 0.8, 0.6, 0.4, 0.2, 0, 0]),
        ("linear", 1, [1 / 2, 1, 0.75, 0.5, 0.25, 0]),
        ("cosine", 0, [1, 0.9045, 0.6545, 0.3455, 0.0955, 0, 0]),
        ("cosine", 1, [1 / 2, 1, 0.8536, 0.5, 0.1464, 0]),
        ("onecycle", 0, [0.04, 0.52, 1, 0.75, 0.25, 0]),
        ("onecycle", 3, [0.04, 0.28, 0.76, 1, 0.5, 0]),
    ],
)
def test_a_schedule_is_a_table_of_factors(name, warmup, factors):
    table = [learning_rate_factor(name, step, warmup, total_steps=5) for step in range(len(factors))]
    assert table == pytest.approx(factors, abs=1e-4)


def test_the_learning_rate_of_each_epoch_is_logged(points, train):
    params = {"learning_rate": 0.02, "num_epochs": 5, "batch_size": 50}
    rates = {
        name: [row["learning_rate"] for row in history(train(points(name, schedule=name, **params)))]
        for name in ("constant", "linear")
    }
    assert rates["constant"] == pytest.approx([0.02] * 5)
    assert rates["linear"] == pytest.approx([0.02, 0.016, 0.012, 0.008, 0.004])


def test_warm_up_lasts_for_its_epochs(points, train):
    folder = train(points(warmup_epochs=1.5, num_epochs=3, batch_size=25, accumulate=2))
    first, second, third = (row["learning_rate"] for row in history(folder))
    assert (first, second, third) == pytest.approx((0.01 / 7, 0.01 * 5 / 7, 0.01))


@pytest.mark.parametrize(
    ("unit", "rates"),
    [("epoch", [0.01, 0.005, 0.0025]), ("step", [0.01, 0.01 / 2**4, 0.01 / 2**8])],
)
def test_a_task_can_have_its_own_schedule(points, variant, train, unit, rates):
    net = f"""
from torch.optim.lr_scheduler import ExponentialLR

def configure_scheduler(optimizer, params, total_steps):
    assert total_steps == 12
    return ExponentialLR(optimizer, 0.5), "{unit}"
"""
    folder = train(points(task="own", num_epochs=3, batch_size=50), path=variant("own", net=net))
    assert [row["learning_rate"] for row in history(folder)] == pytest.approx(rates)


def test_on_a_plateau_the_learning_rate_falls(points, train):
    folder = train(points(schedule="plateau", learning_rate=1e-5, num_epochs=14, batch_size=200))
    rates = [row["learning_rate"] for row in history(folder)]
    assert rates == pytest.approx([1e-5] * 12 + [1e-6] * 2, rel=1e-3)


def test_an_epoch_may_be_so_many_steps(points, train):
    folder = train(points(steps_per_epoch=3, num_epochs=4, accumulate=2, batch_size=50))
    assert [row["epoch"] for row in history(folder)] == [1, 2, 3, 4]
    assert checkpoint(folder)["step"] == 12


def test_frozen_parts_stay_as_they_are(points, variant, train):
    net = """
class Net(nn.Sequential):
    def __init__(self, params):
        super().__init__(nn.BatchNorm1d(2), nn.Linear(2, 3), nn.BatchNorm1d(3))
        self[0].requires_grad_(False)
"""
    weights = checkpoint(train(points(task="frozen"), path=variant("frozen", net=net)))["state_dict"]
    assert not weights["0.running_mean"].any()
    assert weights["2.running_mean"].any()


MASKED = """
def loss_fn(outputs, labels):
    losses = nn.functional.cross_entropy(outputs, labels, reduction="none")
    return (losses * (labels > 0)).sum(), (labels > 0).sum()
"""


@pytest.mark.parametrize("net", ["", MASKED], ids=["mean", "total and count"])
def test_accumulated_batches_count_like_one_as_large(points, variant, train, net):
    path = variant("task_of_loss", net=net)
    params = {"task": "task_of_loss", "optimizer": "SGD", "learning_rate": 0.5}
    large = train(points("large", batch_size=24, **params), path=path)  # 200 examples: the last batch is 8
    small = train(points("small", batch_size=3, accumulate=8, **params), path=path)  # the last group is 3 + 3 + 2
    still = train(points("still", batch_size=24, **{**params, "learning_rate": 0}), path=path)
    assert distance(large, small) < 1e-5 < 0.1 < distance(large, still)
    for ours, theirs in zip(history(large), history(small), strict=True):
        assert ours["val_loss"] == pytest.approx(theirs["val_loss"], abs=1e-5)
    assert checkpoint(large)["step"] == checkpoint(small)["step"] == 18


def test_an_optimizer_that_needs_another_loop_is_refused():
    with pytest.raises(UserError, match='"optimizer": "LBFGS" computes the loss many times in each step'):
        make_optimizer("LBFGS", nn.Linear(1, 1), 1.0)


def test_a_clipped_gradient_is_no_longer_than_its_limit(points, train):
    params = {"optimizer": "SGD", "max_train_batches": 1, "num_epochs": 1}
    still = train(points("still", **params, learning_rate=0))
    free = train(points("free", **{**params, "learning_rate": 1}))
    clipped = train(points("clipped", **{**params, "learning_rate": 1}, grad_clip=0.01))
    assert distance(free, still) > 0.1
    assert distance(clipped, still) == pytest.approx(0.01, rel=1e-3)


def test_one_batch_can_be_learned_by_heart(points, train):
    params = {"max_train_batches": 1, "batch_size": 8, "num_epochs": 60, "num_hidden": 64}
    assert history(train(points(**params, learning_rate=0.05)))[-1]["train_loss"] < 0.01


COUNTING = """
from pathlib import Path

def loss_fn(outputs, labels):
    if outputs.requires_grad:  # of the batches of one epoch, in order: how many are right, of how many
        right = int((outputs.argmax(dim=1) == labels).sum())
        with Path("seen.txt").open("a") as file:
            print(right, len(labels), file=file)
    return nn.functional.cross_entropy(outputs, labels)
"""


@pytest.mark.parametrize(
    ("every", "seen"),
    [(None, slice(None)), (1, slice(None)), (3, slice(None, None, 3)), (100, slice(None, None, 14))],
    ids=["all", "all, as params.json says", "one in three", "never fewer than three"],
)
def test_the_train_scores_of_an_epoch_are_of_the_batches_that_they_say(points, train, variant, tmp_path, every, seen):
    """29 batches, the last one of 4: counted by hand, each under the weights that it was trained with."""
    path = variant("counting", net=COUNTING)
    said = {} if every is None else {"save_summary_steps": every}
    folder = points(task="counting", batch_size=7, num_epochs=1, **said)
    train(folder, path=path, cwd=tmp_path)
    batches = [tuple(map(int, line.split())) for line in (tmp_path / "seen.txt").read_text().splitlines()]
    assert [size for _, size in batches] == [7] * 28 + [4]
    right, count = (sum(column) for column in zip(*batches[seen], strict=True))
    (row,) = history(folder)
    assert row["train_accuracy"] == pytest.approx(right / count, abs=1e-12)
    is_sampled, log = every in (3, 100), (folder / "train.log").read_text()
    assert row.get("sampled") == (["train_accuracy"] if is_sampled else None)
    assert ("- train: sampled accuracy " in log, "- train: accuracy " in log) == (is_sampled, not is_sampled)
    assert log.count(f"(train accuracy: of 1 batch in {seen.step};") == is_sampled
    assert curves_of(folder) >= {"accuracy/train_sampled" if is_sampled else "accuracy/train", "loss/train"}


def curves_of(folder):
    """The names of the curves that TensorBoard shows."""
    board = EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    return set(board.Tags()["scalars"])


def test_the_train_loss_is_exact_over_the_epoch(points, train):
    rows = history(train(points(learning_rate=0, batch_size=7, num_epochs=1)))
    large = history(train(points("large", learning_rate=0, batch_size=200, num_epochs=1)))
    assert rows[0]["train_loss"] == pytest.approx(large[0]["train_loss"], rel=1e-6)


# Averaged weights


@pytest.mark.parametrize(("ema_decay", "decay"), [(0.1, 0.1), (0.75, 2 / 11)], ids=["its decay", "the first decay"])
def test_the_average_follows_the_weights_with_its_decay(points, train, ema_decay, decay):
    params = {"max_train_batches": 1, "optimizer": "SGD", "learning_rate": 0.5, "ema_decay": ema_decay}
    first, second = train(points("first", **params, num_epochs=1)), train(points("second", **params, num_epochs=2))
    before, after, average = (
        checkpoint(first)["training_state_dict"],
        checkpoint(second)["training_state_dict"],
        checkpoint(second)["state_dict"],
    )
    for name in average:
        torch.testing.assert_close(average[name], decay * before[name] + (1 - decay) * after[name])
    assert not same(average, after)


def test_whole_numbers_are_no_average():
    model = nn.Module()
    model.register_buffer("indices", torch.arange(1000))
    averaged = average_of(model, 0.999)
    for _ in range(5):
        averaged.update_parameters(model)
    assert same(averaged.module.indices, torch.arange(1000))


def test_the_average_follows_from_the_first_steps_on():
    model = nn.BatchNorm1d(3)  # with a counter among its buffers
    averaged = average_of(model, 0.9999)
    for step in range(100):
        model.weight.data.fill_(step)
        model.num_batches_tracked.fill_(step)
        averaged.update_parameters(model)
    assert 85 < averaged.module.weight[0] < 99
    assert averaged.module.num_batches_tracked == 99


# Scores and the weights they belong to


def score_of(weights):
    """The accuracy on val of a points network with these weights, by hand."""
    inputs, labels = (torch.from_numpy(array) for array in points_of("val"))
    hidden = torch.relu(inputs @ weights["0.weight"].T + weights["0.bias"])
    outputs = hidden @ weights["2.weight"].T + weights["2.bias"]
    return (outputs.argmax(dim=1) == labels).double().mean().item()


@pytest.mark.parametrize("params", [{}, {"ema_decay": 0.9, "num_epochs": 4}, {"monitor": "loss", "mode": "max"}])
def test_the_score_logged_is_that_of_the_weights_saved(points, train, script, params):
    folder = train(points(**params))
    for name in ("best", "last"):
        recorded = read(folder, f"metrics_val_{name}_weights.json")
        assert recorded["accuracy"] == pytest.approx(score_of(checkpoint(folder, name)["state_dict"]))
        done = script("evaluate", "--model_dir", folder, "--split", "val", "--restore_file", name)
        assert done.status == 0, done.stderr
        assert read(folder, f"metrics_val_{name}.json") == recorded
    best = checkpoint(folder, "best")["epoch"]
    assert recorded["loss"] == history(folder)[-1]["val_loss"]
    assert read(folder, "metrics_val_best_weights.json")["loss"] == history(folder)[best - 1]["val_loss"]


def test_dropout_is_for_training_alone(points, variant, train, script):
    net = """
import torch

class Net(Net):
    def forward(self, inputs):
        assert self.training == torch.is_grad_enabled()
        return nn.functional.dropout(super().forward(inputs), 0.5, self.training)
"""
    path = variant("dropping", net=net)
    folder = train(points(task="dropping", num_epochs=3), path=path)
    assert score_of(checkpoint(folder)["state_dict"]) == pytest.approx(history(folder)[-1]["val_accuracy"])
    assert script("evaluate", "--model_dir", folder, path=path).status == 0


@pytest.mark.parametrize(
    ("params", "column", "choose"),
    [
        ({}, "val_accuracy", max),
        ({"monitor": "loss"}, "val_loss", min),
        ({"monitor": "loss", "mode": "max"}, "val_loss", max),
        ({"monitor": "accuracy", "mode": "min"}, "val_accuracy", min),
    ],
)
def test_the_best_epoch_is_best_in_what_is_monitored_and_of_equals_in_the_loss(points, train, params, column, choose):
    folder = train(points(num_epochs=6, learning_rate=0.1, **params))
    scores = [row[column] for row in history(folder)]
    equals = [row for row in history(folder) if row[column] == choose(scores)]
    assert checkpoint(folder, "best")["epoch"] == min(equals, key=lambda row: row["val_loss"])["epoch"]


def test_without_an_accuracy_the_loss_is_monitored(points, variant, train):
    path = variant("no_metrics", net="metrics = {}")
    folder = train(points(task="no_metrics", num_epochs=3), path=path)
    losses = [row["val_loss"] for row in history(folder)]
    assert checkpoint(folder, "best")["best_score"] == min(losses)
    assert set(read(folder, "metrics_val_best_weights.json")) == {"loss"}


def test_patience_ends_a_run_that_gets_no_better_and_nobody_advises_more(points, train, script):
    folder = train(points(learning_rate=0, num_epochs=20, patience=3))
    assert len(history(folder)) == 4
    assert read(folder, "status.json")["state"] == "finished"
    assert (folder / "train.log").read_text().count("(best accuracy so far)") == 4  # of equal epochs the later one
    again = script("train", "--model_dir", folder).stdout
    assert (
        "is finished: stopped early after epoch 4 of 20, as accuracy was no better for 3 epochs, best on val: " in again
    )
    assert "test it" in again
    assert "longer" not in again


@pytest.mark.parametrize("mode", ["max", "min"])
def test_a_score_that_is_no_number_is_never_the_best(mode):
    weights = nn.Linear(1, 1)
    state = State(weights, torch.optim.SGD(weights.parameters()), Schedule(), None, Scores({}))
    assert not state.finish_epoch(math.nan, 0.1, mode)
    assert state.finish_epoch(0.5, 0.2, mode)
    assert not state.finish_epoch(math.nan, 0.1, mode)
    assert state.finish_epoch({"max": 0.6, "min": 0.4}[mode], 0.3, mode)
    assert (state.best_epoch, state.epoch) == (4, 4)


def test_parts_of_a_loss_are_logged(points, variant, train):
    net = """
def loss_fn(outputs, labels):
    cross_entropy = nn.functional.cross_entropy(outputs, labels)
    return {"loss": cross_entropy + 2, "cross_entropy": cross_entropy}
"""
    folder = train(points(task="parts"), path=variant("parts", net=net))
    plain = train(points("plain"))
    for row, plain_row in zip(history(folder), history(plain), strict=True):
        assert row["val_loss"] == pytest.approx(row["val_cross_entropy"] + 2)
        assert row["train_cross_entropy"] == pytest.approx(plain_row["train_loss"])


# A task's own ways


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def step(model, batch, params):\n    return model(batch[0]), batch[1]", "and it returned a tuple of 2"),
        ("def loss_fn(outputs, labels):\n    return outputs", 'net.py: "loss" is to be a mean over the batch'),
        ("metrics = {'accuracy': lambda outputs, labels: None}", 'the metric "accuracy" returns None, not a number'),
    ],
    ids=["step", "loss", "metric"],
)
def test_what_returns_another_thing_than_it_should_is_named(points, variant, script, code, said):
    done = script("train", "--model_dir", points(task="returning"), path=variant("returning", net=code))
    assert (done.status, done.stderr.count("\n")) == (2, 1), done.stderr
    assert said in done.stderr


def test_a_loader_that_gives_no_dict_is_named(points, variant, script):
    code = "def fetch_dataloader(types, data_dir, params):\n    return [1, 2]"
    done = script("train", "--model_dir", points(task="listing"), path=variant("listing", data_loader=code))
    assert (done.status, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "fetch_dataloader returns a list of 2, not a dict {split: batches}" in done.stderr


def test_a_name_that_is_nearly_that_of_a_hook_is_a_warning(points, variant, train):
    net = "def configure_optimiser(model, params):\n    pass\n\nmetric = metrics\ndel metrics\nsteps = 3"
    folder = train(points(task="near"), path=variant("near", net=net))
    warnings = [line for line in (folder / "train.log").read_text().splitlines() if "WARNING" in line]
    assert [line.split("net.py: ")[1] for line in warnings] == [
        f'"{name}" is read by nothing; did you mean "{hook}"?'
        for name, hook in (("metric", "metrics"), ("configure_optimiser", "configure_optimizer"))
    ]


def test_a_task_can_have_its_own_step_optimizer_and_predictions(points, task_package, train, script):
    net = """
from torch import nn, optim
from tests.projects.points.net import Net

def step(model, batch, params):
    outputs = model(batch["points"])
    return nn.functional.cross_entropy(outputs, batch["corners"]), outputs, batch["corners"]

def configure_optimizer(model, params):
    return optim.SGD(model.parameters(), lr=params.learning_rate, nesterov=True, momentum=0.9)

def metrics(params):
    return {"first": lambda outputs, labels: (float((labels == 0).sum()), len(labels))}

def predict(outputs, params):
    return {"corner": outputs.argmax(dim=1).cpu()}
"""
    data_loader = """
from torch.utils.data import DataLoader
from tests.projects.points.data_loader import points

def fetch_dataloader(types, data_dir, params):
    def examples(split):
        return [{"points": point, "corners": corner} for point, corner in zip(*points(split))]
    return {split: DataLoader(examples(split), batch_size=9, shuffle=split == "train") for split in types}
"""
    path = task_package("own", net=net, data_loader=data_loader)
    folder = train(points(task="own"), path=path)
    assert history(folder)[-1]["val_first"] == pytest.approx(np.mean(points_of("val")[1] == 0))
    assert "nesterov" in str(checkpoint(folder)["optim_dict"]["param_groups"])
    assert script("evaluate", "--model_dir", folder, path=path).status == 0
    assert (folder / "predictions_test.csv").read_text().startswith("label,corner\n")


def test_what_a_loader_learns_is_kept_and_back_at_evaluation(points, variant, train, script):
    loader = """
def fetch_dataloader(types, data_dir, params, fetch=fetch_dataloader):
    if "train" in types:
        params.classes = ["top", "left", "right"]
        params.mean = np.float32(0.5)
    assert params.mean == 0.5
    return fetch(types, data_dir, params)
"""
    path = variant("learning", data_loader=loader)
    folder = train(points(task="learning"), path=path)
    learned = {"classes": ["top", "left", "right"], "mean": 0.5}
    kept = read(folder, "data.json")
    assert kept == read_checkpoint(folder / "best.pth.tar")["learned"]
    assert kept.pop("_splits").keys() == {"train", "val"}
    assert kept == learned
    done = script("evaluate", "--model_dir", folder, path=path)
    assert done.status == 0, done.stderr
    rows = list(csv.DictReader((folder / "predictions_test.csv").open()))
    assert {row["label"] for row in rows} == set(learned["classes"])


def test_a_key_that_the_file_and_the_loader_both_set_resumes_and_a_difference_is_told_and_recorded(
    points, variant, train, script
):
    loader = """
def fetch_dataloader(types, data_dir, params, fetch=fetch_dataloader):
    params.num_classes, params.mean, params.num_hidden = 3, (0.5, 0.25), 8
    return fetch(types, data_dir, params)
"""
    path = variant("setting", data_loader=loader)
    folder = points(task="setting", num_classes=3, mean=[0.5, 0.25], num_hidden=5)
    assert scripts.call(stop_after_first_epoch, ["--model_dir", str(folder)], path) == 1
    train(folder, path=path)
    said = 'params.json says "num_hidden": 5, and the task set it to 8, which is what counts'
    assert (folder / "train.log").read_text().count(said) == 2  # once for each start
    record = read(folder, "run.json")
    assert (record["params"]["num_hidden"], record["overruled"]) == (5, {"num_hidden": 8})
    learned = {key: value for key, value in read(folder, "data.json").items() if not key.startswith("_")}
    assert learned == {"mean": [0.5, 0.25], "num_classes": 3, "num_hidden": 8}
    assert checkpoint(folder)["state_dict"]["0.weight"].shape == (8, 2)
    done = script("evaluate", "--model_dir", folder, path=path)
    assert done.status == 0, done.stderr


def test_code_reads_what_is_in_effect_and_records_keep_what_was_typed(points, variant, train, script):
    net = """
import torch

class Net(Net):
    def __init__(self, params):
        super().__init__(params)
        assert torch.zeros(1, device=params.device).device.type == "cpu"
        assert (params.cuda, params.precision in ("float32", "bfloat16")) == (False, True)
"""
    path = variant("asking", net=net)
    folder = train(points(task="asking", device="auto", precision="auto"), path=path)
    recorded = read(folder, "run.json")["params"]
    assert (recorded["device"], recorded["precision"]) == ("auto", "auto")
    assert script("evaluate", "--model_dir", folder, path=path).status == 0


# Precision and layout


def test_bfloat16_and_channels_last_reach_the_network(points, variant, train):
    net = """
import torch

class Net(nn.Module):
    def __init__(self, params):
        super().__init__()
        self.convolution = nn.Conv2d(2, 3, 2)

    def forward(self, inputs):
        assert inputs.is_contiguous(memory_format=torch.channels_last)
        outputs = self.convolution(inputs)
        assert outputs.dtype == torch.bfloat16
        return outputs.mean(dim=(2, 3))
"""
    loader = """
def fetch_dataloader(types, data_dir, params):
    def pictures(split):
        inputs, labels = points(split)
        return np.tile(inputs[:, :, None, None], (1, 1, 4, 4)), labels
    return {split: TensorBatches(*pictures(split), batch_size=params.batch_size) for split in types}
"""
    path = variant("pictures", net=net, data_loader=loader)
    folder = train(points(task="pictures", precision="bfloat16", channels_last=True, threads=2), path=path)
    rows = history(folder)
    assert rows[-1]["val_loss"] < rows[0]["val_loss"]
    log = (folder / "train.log").read_text()
    assert "bfloat16" in log
    assert "2 threads" in log
    assert {weights.dtype for weights in checkpoint(folder)["state_dict"].values()} == {torch.float32}


# Folders


def test_the_files_of_a_run(trained, tmp_path):
    folder = trained(tmp_path / "run")
    names = {name for name in contents(folder) if not name.startswith("tensorboard/")}
    assert names == {
        "params.json",
        "status.json",
        "metrics.jsonl",
        "metrics_val_best_weights.json",
        "metrics_val_last_weights.json",
        "best.pth.tar",
        "last.pth.tar",
        "data.json",
        "run.json",
        "train.log",
    }
    assert any((folder / "tensorboard").iterdir())
    assert {"epoch", "state_dict", "optim_dict"} <= checkpoint(folder).keys()
    columns = ["epoch", "train_loss", "train_accuracy", "val_accuracy", "val_loss", "learning_rate"]
    assert sorted(history(folder)[0]) == sorted(columns)
    assert [row["epoch"] for row in history(folder)] == [1, 2]
    assert read(folder, "status.json")["state"] == "finished"
    assert read(folder, "status.json")["epoch"] == 2
    record = read(folder, "run.json")
    assert record["params"]["batch_size"] == 32
    assert {"command", "git", "versions", "device", "data"} <= record.keys()


def test_a_finished_run_says_so_and_stays_as_it_is(trained, script, tmp_path):
    folder = trained(tmp_path / "run")
    before = contents(folder)
    done = script("train", "--model_dir", folder)
    assert done.status == 0
    assert "finished" in done.stdout
    assert "--from" in done.stdout
    assert contents(folder) == before
    (folder / "metrics_val_best_weights.json").write_text('{"accuracy": "high", "loss": 0.25}')  # by somebody else
    done = script("train", "--model_dir", folder)
    assert done.status == 0, done.stderr
    assert "best on val: loss 0.25\n" in done.stdout


def test_changed_params_are_refused_by_name(trained, script, tmp_path):
    folder = trained(tmp_path / "run")
    params = read(folder, "params.json")
    (folder / "params.json").write_text(json.dumps({**params, "learning_rate": 0.02, "num_hidden": 8}))
    before = contents(folder)
    done = script("train", "--model_dir", folder)
    assert done.status == 2
    assert "learning_rate 0.01 -> 0.02" in done.stderr
    assert "num_hidden None -> 8" in done.stderr
    assert "--fresh" in done.stderr
    assert "--from" in done.stderr
    assert contents(folder) == before


def test_params_that_cannot_matter_may_change(trained, script, tmp_path):
    folder = trained(tmp_path / "run")
    params = read(folder, "params.json")
    (folder / "params.json").write_text(json.dumps({**params, "num_workers": 2, "device": "cpu", "_note": "again"}))
    assert script("train", "--model_dir", folder).status == 0


def test_fresh_moves_the_old_run_aside(trained, train, tmp_path):
    folder = trained(tmp_path / "run")
    old = contents(folder)
    del old["params.json"]
    train(folder, "--fresh")
    assert contents(folder / ".old" / "1") == old
    assert len(history(folder)) == 2
    train(folder, "--fresh")
    assert {path.name for path in (folder / ".old").iterdir()} == {"1", "2"}
    assert contents(folder / ".old" / "1") == old


@pytest.mark.parametrize("words", [["--restore_file", "nosuch"], []], ids=["no such start", "a first step that fails"])
def test_a_fresh_run_that_does_not_begin_leaves_the_old_one_where_it_is(
    points, variant, train, script, tmp_path, words
):
    net = f"""
from pathlib import Path

def loss_fn(outputs, labels, plain=loss_fn):
    if Path("{(tmp_path / "broken").as_posix()}").exists():
        raise ValueError("broken by an edit")
    return plain(outputs, labels)
"""
    path = variant("breaking", net=net)
    folder = train(points(task="breaking"), path=path)
    (tmp_path / "broken").touch()
    before = contents(folder)
    assert script("train", "--model_dir", folder, "--fresh", *words, path=path).status != 0
    assert contents(folder) == before


def test_a_fresh_run_can_start_from_the_weights_of_the_old_one(trained, train, tmp_path):
    folder = trained(tmp_path / "run")
    old = checkpoint(folder, "best")["state_dict"]
    (folder / "params.json").write_text(json.dumps(read(folder, "params.json") | {"learning_rate": 0, "num_epochs": 1}))
    train(folder, "--fresh", "--restore_file", "best")
    assert same(checkpoint(folder)["state_dict"], old)
    assert read(folder, "run.json")["params"]["init_from"] == ".old/1/best.pth.tar"
    assert "Nothing has read" not in (folder / "train.log").read_text()
    assert same(checkpoint(folder / ".old" / "1", "best")["state_dict"], old)
    assert len(history(folder)) == 1
    train(folder)  # finished, and says so


def test_fresh_takes_data_and_start_from_the_file_or_from_the_command_line(points, train, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.csv").write_text(name * 2 if name == "two" else name)
    folder = points(data_dir=str(tmp_path / "one"))
    source = train(points("source")) / "best.pth.tar"
    train(folder, "--data_dir", tmp_path / "two", "--restore_file", source.parent)
    assert read(folder, "run.json")["params"]["data_dir"] == str(tmp_path / "two")
    train(folder, "--fresh")
    assert read(folder, "run.json")["params"]["data_dir"] == str(tmp_path / "one")
    assert read(folder, "run.json")["params"]["init_from"] is None
    train(folder, "--fresh", "--data_dir", tmp_path / "two")
    assert read(folder, "run.json")["params"]["data_dir"] == str(tmp_path / "two")


def test_data_given_on_the_command_line_are_those_of_the_run_ever_after(points, train, script, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.csv").write_text(name * 2 if name == "two" else name)
    folder = points(data_dir=str(tmp_path / "one"))
    train(folder, "--data_dir", tmp_path / "two")
    train(folder)
    folder.joinpath("params.json").write_text(json.dumps({**read(folder, "params.json"), "num_epochs": 9}))
    done = script("train", "--model_dir", folder)
    assert done.status == 2
    assert f"--fresh --data_dir {tmp_path / 'two'} " in done.stderr


def test_other_data_in_the_file_are_other_data(points, train, script, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.csv").write_text("1")
    folder = train(points())
    folder.joinpath("params.json").write_text(
        json.dumps({**read(folder, "params.json"), "data_dir": str(tmp_path / "other")})
    )
    done = script("train", "--model_dir", folder)
    assert done.status == 2
    assert "other params or data: data in " in done.stderr


def test_data_that_are_not_here_are_not_other_data(points, train, script, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data.csv").write_text("1")
    folder = train(points(data_dir=str(tmp_path / "data")))
    (tmp_path / "data").rename(tmp_path / "moved")
    done = script("train", "--model_dir", folder)
    assert done.status == 2
    assert "are not here" in done.stderr
    assert "--fresh" not in done.stderr
    train(folder, "--data_dir", tmp_path / "moved")


def test_a_link_to_nothing_in_the_data_is_no_end(points, train, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "nothing")
    assert read(train(points(data_dir=str(tmp_path / "data"))), "run.json")["data"]["files"] == 1


def test_an_experiment_from_another_has_its_params_but_for_the_settings(trained, train, tmp_path):
    source, target = trained(tmp_path / "source"), tmp_path / "new" / "target"
    before = contents(source)
    train(target, "--from", source, "--set", "num_epochs=1", "--set", "optimizer=SGD", "--set", "num_hidden=8")
    expected = {**read(source, "params.json"), "num_epochs": 1, "optimizer": "SGD", "num_hidden": 8}
    assert read(target, "params.json") == expected
    assert len(history(target)) == 1
    assert checkpoint(target)["state_dict"]["0.weight"].shape == (8, 2)
    assert contents(source) == before


def test_params_that_are_there_are_never_written_to(points, train, script):
    folder = points("run")
    text = b'{"task":"tests.projects.points",\r\n\t"data_dir" : "none", "num_epochs": 1.0}  \n\n'
    (folder / "params.json").write_bytes(text)
    stamp = (folder / "params.json").stat()
    train(folder)
    train(folder)
    train(folder, "--fresh")
    assert script("evaluate", "--model_dir", folder).status == 0
    after = (folder / "params.json").stat()
    assert (folder / "params.json").read_bytes() == text
    assert (after.st_mtime_ns, after.st_ino) == (stamp.st_mtime_ns, stamp.st_ino)


@pytest.mark.parametrize("by_params", [False, True], ids=["restore_file", "init_from"])
def test_a_warm_start_takes_the_weights_and_nothing_else(trained, points, train, tmp_path, by_params):
    source = trained(tmp_path / "source") / "best.pth.tar"
    params = {"init_from": str(source)} if by_params else {}
    folder = points("warm", learning_rate=0, num_epochs=1, **params)
    train(folder, *([] if by_params else ["--restore_file", source]))
    assert same(checkpoint(folder)["state_dict"], checkpoint(source.parent, "best")["state_dict"])
    assert [row["epoch"] for row in history(folder)] == [1]
    assert read(folder, "run.json")["params"]["init_from"] == str(source)


# Evaluation


def test_the_scores_of_another_network_never_stand_for_this_ones(trained, points, train, script, tmp_path):
    folder, other = trained(tmp_path / "run"), train(points("other", num_epochs=1, seed=3))
    assert script("evaluate", "--model_dir", folder).status == 0
    own = contents(folder)
    torch.save(
        {**checkpoint(other), "run": checkpoint(folder)["run"]}, folder / "last.pth.tar"
    )  # as if it had got worse
    for name, start in (("other_best", "../other/best.pth.tar"), ("last", "last")):
        done = script("evaluate", "--model_dir", folder, "--restore_file", start)
        assert done.status == 0, done.stderr
        assert {f"metrics_test_{name}.json", f"predictions_test_{name}.csv"} <= contents(folder).keys()
    for name in ("metrics_test_best.json", "predictions_test.csv"):
        assert contents(folder)[name] == own[name]
    looks = [look["checkpoint"] for look in read(folder, "run.json")["evaluations"]]
    assert looks == ["best", "../other/best", "last"]


def test_code_that_was_edited_since_is_said_and_recorded_where_it_is_scored(points, variant, train, script):
    path = variant("edited", net="x = 1")
    folder = train(points(task="edited"), path=path)
    assert "was edited" not in script("evaluate", "--model_dir", folder, path=path).stdout
    net = path / "edited" / "net.py"
    net.write_text(net.read_text() + "\ny = 2")
    assert (
        "The code was edited since this run was trained: edited/net.py"
        in script("evaluate", "--model_dir", folder, path=path).stdout
    )
    assert [look["edited"] for look in read(folder, "run.json")["evaluations"]] == [[], ["edited/net.py"]]


def test_a_score_that_is_no_number_in_any_epoch_is_said_with_the_way_out(points, variant, train, script):
    path = variant("nowhere_a_number", net="metrics = {'accuracy': lambda outputs, labels: float('nan')}")
    folder = train(points(task="nowhere_a_number", num_epochs=2), path=path)
    log = (folder / "train.log").read_text()
    assert log.count("val accuracy is no number") == 1
    assert "(total, count)" in log
    assert not (folder / "best.pth.tar").exists()
    done = script("train", "--model_dir", folder, path=path)
    command = next(line for line in done.stdout.splitlines() if "evaluate.py" in line).partition("evaluate.py")[2]
    assert script("evaluate", *command.split(), path=path).status == 0  # what is advised works


@pytest.mark.parametrize(("value", "times"), [("nan", 1), ("0", 0)])
def test_a_validation_loss_that_is_no_number_is_told_once_though_an_accuracy_is_one(
    points, variant, train, value, times
):
    forward = f"def forward(self, inputs): return super().forward(inputs) + float('0' if self.training else '{value}')"
    path = variant(
        "lost_in_validation", net=f"from tests.projects.points import net\nclass Net(net.Net):\n    {forward}"
    )
    folder = train(points(task="lost_in_validation", num_epochs=2), path=path)
    assert (folder / "train.log").read_text().count("val loss is no number") == times
    assert [row["val_accuracy"] is not None for row in history(folder)] == [True, True]


def test_evaluation_leaves_scores_and_a_line_for_each_example(trained, script, tmp_path):
    folder = trained(tmp_path / "run")
    before = contents(folder)
    done = script("evaluate", "--model_dir", folder)
    assert done.status == 0, done.stderr
    lines = list(csv.DictReader((folder / "predictions_test.csv").open()))
    assert list(lines[0]) == ["label", "prediction", "probability"]
    assert [int(line["label"]) for line in lines] == points_of("test")[1].tolist()
    right = np.mean([line["label"] == line["prediction"] for line in lines])
    assert read(folder, "metrics_test_best.json")["accuracy"] == pytest.approx(right)
    assert all(1 / 3 <= float(line["probability"]) <= 1 for line in lines)
    assert [look["split"] for look in read(folder, "run.json")["evaluations"]] == ["test"]
    after = contents(folder)
    new = {"metrics_test_best.json", "predictions_test.csv", "evaluate.log"}
    assert after.keys() - before.keys() == new
    assert all(after[name] == before[name] for name in before if name != "run.json")


def test_evaluation_uses_the_params_of_the_run_and_says_if_the_file_has_others(points, train, script):
    folder = train(points(steps_per_epoch=9, device="cpu"))
    values = read(folder, "params.json") | {"steps_per_epoch": 1, "num_epochs": 7, "device": "auto"}
    (folder / "params.json").write_text(json.dumps(values))
    done = script("evaluate", "--model_dir", folder, "--split", "val")
    assert done.status == 0, done.stderr
    assert "params.json now has another num_epochs, steps_per_epoch\n" in done.stdout
    assert read(folder, "metrics_val_best.json") == read(folder, "metrics_val_best_weights.json")


def test_scores_of_a_best_checkpoint_that_is_no_longer_the_best_are_gone(points, train, script):
    folder = points(num_epochs=3)
    assert scripts.call(stop_after_first_epoch, ["--model_dir", str(folder)]) == 1
    for checkpoint_name in ("best", "last"):
        assert script("evaluate", "--model_dir", folder, "--restore_file", checkpoint_name).status == 0
    train(folder)
    assert not (folder / "metrics_test_best.json").exists()
    assert (folder / "metrics_val_best_weights.json").exists()
    assert len(read(folder, "run.json")["evaluations"]) == 2


def test_scores_on_other_data_do_not_stand_for_those_on_its_own(trained, script, tmp_path):
    folder = trained(tmp_path / "run")
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "points.csv").write_text("1,2\n")
    assert script("evaluate", "--model_dir", folder).status == 0
    (folder / "metrics_test_best.json").unlink()
    done = script("evaluate", "--model_dir", folder, "--data_dir", tmp_path / "others")
    assert done.status == 0, done.stderr
    assert "other data than this run's" in done.stdout
    looks = read(folder, "run.json")["evaluations"]
    assert [look.get("data_dir") for look in looks] == [None, str(tmp_path / "others")]
    assert looks[1]["scores"] == looks[0]["scores"]
    assert not (folder / "metrics_test_best.json").exists()


def test_its_own_data_may_have_moved(points, train, script, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "points.csv").write_text("1,2\n")
    folder = train(points(data_dir=str(tmp_path / "data")))
    (tmp_path / "data").rename(tmp_path / "moved")
    done = script("evaluate", "--model_dir", folder, "--data_dir", tmp_path / "moved")
    assert done.status == 0, done.stderr
    assert (folder / "metrics_test_best.json").exists()


def test_each_split_has_its_own_files_and_its_examples_their_names(points, variant, train, script):
    loader = """
def fetch_dataloader(types, data_dir, params, fetch=fetch_dataloader):
    loaders = fetch(types, data_dir, params)
    for split, batches in loaders.items():
        batches.names = [f"{split} point {index}" for index in range(SIZES[split])]
    return loaders
"""
    path = variant("named", data_loader=loader)
    folder = train(points(task="named"), path=path)
    done = script("evaluate", "--model_dir", folder, "--split", "val", "--restore_file", "last", path=path)
    assert done.status == 0, done.stderr
    lines = list(csv.DictReader((folder / "predictions_val_last.csv").open()))
    assert [line["file"] for line in lines] == [f"val point {index}" for index in range(60)]
    assert list(lines[0]) == ["file", "label", "prediction", "probability"]
    assert read(folder, "metrics_val_last.json") == read(folder, "metrics_val_last_weights.json")
    assert not (folder / "metrics_test_best.json").exists()


def test_the_lines_are_in_the_order_of_the_names_on_train_too(points, variant, train, script):
    loader = """
def fetch_dataloader(types, data_dir, params, fetch=fetch_dataloader):
    loaders = fetch(types, data_dir, params)
    for split, batches in loaders.items():
        batches.names = points(split)[1].tolist()  # so that each name is the label
    return loaders
"""
    path = variant("named", data_loader=loader)
    folder = train(points(task="named"), path=path)
    done = script("evaluate", "--model_dir", folder, "--split", "train", path=path)
    assert done.status == 0, done.stderr
    assert all(line["file"] == line["label"] for line in csv.DictReader((folder / "predictions_train.csv").open()))


@pytest.fixture
def drawing(variant):
    """The folder of a task whose data set draws numbers for each item of val and test, in as many workers as asked."""
    loader = """
from torch.utils.data import DataLoader, Dataset
import random
import numpy as np
import torch

class Noisy(Dataset):
    def __init__(self, split):
        self.inputs, self.labels = points(split)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        noise = torch.randn(2) + np.random.normal() + random.gauss(0, 1)
        return torch.from_numpy(self.inputs[index]) + noise, self.labels[index]

def fetch_dataloader(types, data_dir, params, fetch=fetch_dataloader):
    loaders = fetch(types, data_dir, params)
    for split in set(types) - {"train"}:
        loaders[split] = DataLoader(Noisy(split), params.batch_size, num_workers=params.num_workers)
        loaders[split].names = points(split)[1].tolist()  # so that each name is the label
    return loaders
"""
    return variant("drawing", data_loader=loader)


def test_scores_do_not_depend_on_the_number_of_workers(points, train, script, drawing):
    folders = [train(points(f"{n}", task="drawing", num_workers=n, batch_size=13), path=drawing) for n in range(3)]
    for folder in folders:
        done = script("evaluate", "--model_dir", folder, path=drawing)
        assert done.status == 0, done.stderr
        assert all(line["file"] == line["label"] for line in csv.DictReader((folder / "predictions_test.csv").open()))
    assert history(folders[0]) == history(folders[1]) == history(folders[2])
    tables = [(folder / "predictions_test.csv").read_text() for folder in folders]
    assert tables[0] == tables[1] == tables[2]


def test_on_few_batches_there_are_as_few_lines(points, variant, train, script):
    loader = """
def fetch_dataloader(types, data_dir, params, fetch=fetch_dataloader):
    loaders = fetch(types, data_dir, params)
    for split, batches in loaders.items():
        batches.names = list(range(SIZES[split]))
    return loaders
"""
    path = variant("named", data_loader=loader)
    folder = train(points(task="named", max_eval_batches=2, batch_size=7), path=path)
    words = ("--model_dir", folder)
    assert script("evaluate", *words, path=path).status == 0
    assert len(list(csv.DictReader((folder / "predictions_test.csv").open()))) == 60  # all, unless it is asked for less
    whole = read(folder, "metrics_test_best.json")
    done = script("evaluate", *words, "--max_eval_batches", 2, path=path)
    assert done.status == 0, done.stderr
    size = len(checkpoint_batches := list(csv.DictReader((folder / "predictions_test_best_2_batches.csv").open())))
    assert f"- test ({size} of 60 examples): " in done.stdout
    assert [int(line["file"]) for line in checkpoint_batches] == [index * 60 // size for index in range(size)]
    assert read(folder, "metrics_test_best.json") == whole
    right = np.mean([line["label"] == line["prediction"] for line in checkpoint_batches])
    assert read(folder, "metrics_test_best_2_batches.json")["accuracy"] == pytest.approx(right)
    assert [look["examples"] for look in read(folder, "run.json")["evaluations"]] == [60, size]


def test_a_part_of_a_shuffled_split_is_counted_as_it_was_scored_and_told(points, variant, train, script):
    loader = """
import torch
from torch.utils.data import DataLoader, TensorDataset


def fetch_dataloader(types, data_dir, params, fetch=fetch_dataloader):
    loaders = fetch(types, data_dir, params)
    data = TensorDataset(*map(torch.as_tensor, points("test")))
    return loaders | ({"test": DataLoader(data, 7, shuffle=True)} if "test" in types else {})
"""
    path = variant("shuffled", data_loader=loader)
    folder = train(points(task="shuffled", num_epochs=1), path=path)
    done = script("evaluate", "--model_dir", folder, "--max_eval_batches", 2, path=path)
    assert done.status == 0, done.stderr
    assert "- test (14 of 60 examples): " in done.stdout
    assert "the first 2 batches of an order of its loader's own are scored" in done.stdout + done.stderr
    assert [(look["examples"], look["of"]) for look in read(folder, "run.json")["evaluations"]] == [(14, 60)]


@pytest.mark.parametrize(
    ("named", "columns"),
    [("['a', 'b', 'c']", ["prediction", "probability"]), ("3", [f"prediction_{number}" for number in range(3)])],
    ids=["classes with names", "numbers, as far as anybody knows"],
)
def test_examples_without_labels_are_predicted_and_not_scored(points, variant, train, script, named, columns):
    loader = f"""
def fetch_dataloader(types, data_dir, params, fetch=fetch_dataloader):
    params.classes = {named}
    loaders = fetch([split for split in types if split != "test"], data_dir, params)
    return {{**loaders, "test": TensorBatches(points("test")[0], batch_size=7)}}
"""
    path = variant("unlabelled", data_loader=loader)
    folder = train(points(task="unlabelled"), path=path)
    done = script("evaluate", "--model_dir", folder, path=path)
    assert done.status == 0, done.stderr
    lines = list(csv.DictReader((folder / "predictions_test.csv").open()))
    assert (len(lines), list(lines[0])) == (60, columns)
    assert not (folder / "metrics_test_best.json").exists()
