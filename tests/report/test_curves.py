"""Curves that are thinned so that a page of thousands of runs can be sent: what stays of them."""

import random

import pytest

from engine.report.curves import FEWEST_EPOCHS, MOST_EPOCHS, MOST_NUMBERS, epochs_kept, thinned


def test_few_epochs_stay_as_they_are():
    curves = {"epoch": [1, 2, 3], "val_loss": [3.0, None, 1.0]}
    assert thinned(curves, 3) == curves


@pytest.mark.parametrize("most", [10, 37, 200])
@pytest.mark.parametrize("seed", range(5))
def test_ends_and_the_best_and_worst_validation_score_stay(seed, most):
    draw = random.Random(seed)
    curves = {
        "epoch": list(range(1, 1001)),
        "train_loss": [draw.random() for _ in range(1000)],
        "val_loss": [draw.random() for _ in range(1000)],
        "val_accuracy": [draw.random() for _ in range(1000)],
    }
    kept = thinned(curves, most)
    rows = list(zip(*kept.values(), strict=True))
    assert set(rows) <= set(zip(*curves.values(), strict=True))  # each as it was
    assert (kept["epoch"][0], kept["epoch"][-1]) == (1, 1000)
    for name in ("val_loss", "val_accuracy"):
        assert (min(kept[name]), max(kept[name])) == (min(curves[name]), max(curves[name]))
    assert most / 2 < len(rows) <= most
    assert kept["epoch"] == sorted(kept["epoch"])
    gaps = [after - before for before, after in zip(kept["epoch"], kept["epoch"][1:], strict=False)]
    assert max(gaps) <= 1000 / (most - 8) + 1


def test_scores_that_only_some_epochs_have_are_not_what_is_left_out():
    curves = {"epoch": list(range(100)), "val_loss": [float(epoch) if epoch % 7 == 0 else None for epoch in range(100)]}
    kept = thinned(curves, 12)
    assert sum(value is not None for value in kept["val_loss"]) >= 10
    assert (kept["epoch"][0], kept["epoch"][-1], kept["val_loss"][-2]) == (0, 99, 98)


def test_there_is_room_for_all_epochs_of_few_runs_and_for_some_of_many():
    run = {"epoch": [1], "val_loss": [1.0], "val_accuracy": [1.0], "seconds": [1.0]}
    assert epochs_kept([run]) == MOST_EPOCHS
    assert epochs_kept([run] * 5000) == MOST_NUMBERS // 20_000
    assert epochs_kept([run] * 10**6) == FEWEST_EPOCHS
    assert epochs_kept([]) == MOST_EPOCHS
