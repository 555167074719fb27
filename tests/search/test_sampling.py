"""What to try next, and what to give up, is Optuna's to say; it is asked anew each time, from what the folders hold."""

import itertools
import math
import random

import optuna
import pytest

from engine.search.description import Search
from engine.search.outcomes import Evidence
from engine.search.pruning import is_to_be_pruned, pruning_epochs
from engine.search.sampling import guided_draws, random_draws, suggest
from engine.search.space import Choice, Range

SPACE = {"learning_rate": Range(1e-4, 1e-1, log=True), "kind": Choice(("a", [1, 2], None))}


def evidence(count, best_rate=1e-2):
    """Configurations that score better the nearer they are to the best rate."""
    found = []
    for number in range(count):
        values = suggest("random", SPACE, 1, number)
        found.append(Evidence(values, "finished", score=-abs(values["learning_rate"] - best_rate)))
    return found


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_a_suggestion_follows_from_seed_number_and_evidence(method):
    known = evidence(20)
    assert suggest(method, SPACE, 1, 20, known) == suggest(method, SPACE, 1, 20, known)
    assert suggest(method, SPACE, 1, 20, known) != suggest(method, SPACE, 2, 20, known)
    assert suggest(method, SPACE, 1, 20, known) != suggest(method, SPACE, 1, 21, known)
    assert suggest(method, SPACE, 1, 20, known) != suggest(method, SPACE, 1, 20, known, attempt=1)


@pytest.mark.parametrize(("mode", "best_rate"), [("max", 2e-4), ("min", 5e-2)])
def test_tpe_looks_where_it_was_good(mode, best_rate):
    sign = 1 if mode == "max" else -1
    known = [Evidence(one.values, "finished", sign * one.score) for one in evidence(60, best_rate)]
    draws = [suggest("tpe", SPACE, 1, number, known, mode)["learning_rate"] for number in range(60, 90)]
    near = sum(best_rate / 4 < rate < best_rate * 4 for rate in draws)
    assert near > 20


def test_tpe_takes_what_is_pruned_failed_or_under_way_into_account():
    known = evidence(20)
    values = {"learning_rate": 0.05, "kind": None}
    more = [
        Evidence(values, "pruned", curve={1: 0.1, 2: 0.2}),
        Evidence(values, "pruned", curve={1: math.nan}),
        Evidence(values, "failed"),
        Evidence(values, "running"),
        Evidence(values, "finished", score=None),  # NaN, as JSON has it
    ]
    assert suggest("tpe", SPACE, 1, 24, known + more)["learning_rate"] > 0


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_a_space_is_exhausted_even_where_tpe_would_rather_stay_at_the_best(method):
    space = {"width": Choice(tuple(range(5))), "depth": Choice(tuple(range(5)))}
    search = Search({}, space, method, num_trials=25)
    draws = random_draws(search)
    known = []
    for _ in range(25):
        candidates = draws if method == "random" else guided_draws(search, known, "max")
        values = next(values for values in candidates if all(values != one.values for one in known))
        known.append(Evidence(values, "finished", score=-abs(values["width"] - 2) - abs(values["depth"] - 3)))
    assert {tuple(one.values.values()) for one in known} == set(itertools.product(range(5), range(5)))


NUM_EPOCHS = 27
OPTUNAS = {
    "halving": optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    "median": optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
}


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("pruning", ["halving", "median"])
@pytest.mark.parametrize("undefined", [0.0, 0.1], ids=["numbers", "and NaN"])
@pytest.mark.filterwarnings("ignore:All-NaN slice")
def test_pruning_decides_as_a_study_of_optuna_that_saw_it_all_happen(pruning, mode, undefined):
    draw, holes = random.Random(1), random.Random(5)
    curves = [{epoch: draw.random() for epoch in range(1, NUM_EPOCHS + 1)} for _ in range(30)]
    for curve in curves:
        curve.update({epoch: math.nan for epoch in curve if holes.random() < undefined})
    direction = "maximize" if mode == "max" else "minimize"
    study = optuna.create_study(direction=direction, pruner=OPTUNAS[pruning])
    theirs, ours, ended = [], [], []
    for curve in curves:
        theirs.append(watched_by_optuna(study, curve))
        ours.append(watched_by_us(pruning, curve, ended, mode))
        state = "finished" if ours[-1] == NUM_EPOCHS else "pruned"
        ended.append(Evidence({}, state, curve={epoch: curve[epoch] for epoch in range(1, ours[-1] + 1)}))
    assert ours == theirs
    assert len(set(ours)) > 2
    assert sum(ours) < len(curves) * NUM_EPOCHS * (0.25 if pruning == "halving" else 0.7)


def watched_by_optuna(study, curve):
    trial = study.ask()
    for epoch, score in curve.items():
        trial.report(score, epoch)
        if epoch < NUM_EPOCHS and trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return epoch
    study.tell(trial, 0.0 if math.isnan(curve[NUM_EPOCHS]) else curve[NUM_EPOCHS])
    return NUM_EPOCHS


def watched_by_us(pruning, curve, ended, mode):
    for epoch in sorted(pruning_epochs(pruning, NUM_EPOCHS)):
        so_far = {number: curve[number] for number in range(1, epoch + 1)}
        if is_to_be_pruned(pruning, so_far, ended, NUM_EPOCHS, mode):
            return epoch
    return NUM_EPOCHS


def test_there_is_something_to_decide_at_the_rungs_of_halving_only():
    assert pruning_epochs("halving", 27) == {1, 3, 9}
    assert pruning_epochs("halving", 100) == {3, 9, 27, 81}
    assert pruning_epochs("halving", 5) == {1, 3}
    assert pruning_epochs("halving", 1) == set()
    assert pruning_epochs("median", 5) == {1, 2, 3, 4}
