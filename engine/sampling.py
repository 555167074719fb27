"""What to try next and what to give up: Optuna's samplers and pruners, fed from what the folders say.

The folders are the truth: a study lives in memory only, and is built from them each time something is asked.
"""

import math
from collections.abc import Iterable
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from engine.hyperparameters import Values
from engine.seeds import derive
from engine.space import Choice, Dimension, Range
from engine.trials import Evidence

REDUCTION = 3  # of as many trials that come to a rung of halving, the best one goes on
optuna.logging.set_verbosity(optuna.logging.WARNING)


def suggest(
    method: str,
    space: dict[str, Dimension],
    seed: int,
    number: int,
    evidence: Iterable[Evidence] = (),
    mode: str = "max",
    attempt: int = 0,
) -> Values:
    """The values of configuration `number`: they follow from the seed, the number and, for `tpe`, the evidence."""
    study_seed = derive(seed, number, attempt) % 2**32
    distributions = {name: _distribution(dimension) for name, dimension in space.items()}
    if method == "random":
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(study_seed))
    else:
        sampler = optuna.samplers.TPESampler(seed=study_seed, constant_liar=True)
        study = optuna.create_study(sampler=sampler, direction=_direction(mode))
        study.add_trials([_frozen(one, space, distributions) for one in evidence])
    drawn = study.ask(distributions).params
    return {name: _value(space[name], drawn[name]) for name in space}


def is_to_be_pruned(
    pruning: str, curve: dict[int, float], rivals: Iterable[Evidence], num_epochs: int, mode: str
) -> bool:
    """Whether a trial with this `curve` (epoch -> score) is to be given up, given those of its rivals."""
    shortest = max(1, num_epochs // REDUCTION**3)
    pruner: optuna.pruners.BasePruner
    if pruning == "median":
        pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=shortest)
    else:
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=shortest, reduction_factor=REDUCTION)
    study = optuna.create_study(direction=_direction(mode), pruner=pruner)
    study.add_trials([_with_curve(one.curve, shortest, one.state == "finished") for one in rivals if one.curve])
    study.add_trial(_with_curve(curve, shortest, is_finished=False, is_asking=True))
    return pruner.prune(study, study.trials[-1])


def pruning_epochs(pruning: str, num_epochs: int) -> set[int]:
    """The epochs after which there is something to decide."""
    if pruning == "none":
        return set()
    shortest = max(1, num_epochs // REDUCTION**3)
    if pruning == "median":
        return set(range(shortest, num_epochs))
    return {epoch for epoch in _rungs(shortest, num_epochs) if epoch < num_epochs}


def _rungs(shortest: int, num_epochs: int) -> list[int]:
    count = max(0, math.floor(math.log(num_epochs / shortest, REDUCTION) + 1e-9)) + 1
    return [shortest * REDUCTION**rung for rung in range(count)]


def _with_curve(curve: dict[int, float], shortest: int, is_finished: bool, is_asking: bool = False) -> FrozenTrial:
    """A trial that has come as far as `curve`, with the mark that Optuna leaves at each rung of halving it has passed.

    One that is asking is at its last epoch just now, and has no mark for that one yet.
    """
    last = max(curve)
    passed = [epoch for epoch in _rungs(shortest, last) if not (is_asking and epoch == last)]
    return optuna.trial.create_trial(
        state=TrialState.COMPLETE if is_finished else TrialState.RUNNING,
        value=curve[last] if is_finished else None,
        intermediate_values=curve,
        system_attrs={f"completed_rung_{rung}": curve[epoch] for rung, epoch in enumerate(passed) if epoch in curve},
    )


def _frozen(one: Evidence, space: dict[str, Dimension], distributions: dict[str, BaseDistribution]) -> FrozenTrial:
    states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    state = states.get(one.state, TrialState.RUNNING)
    if state is TrialState.COMPLETE and one.score is None:
        state = TrialState.FAIL
    return optuna.trial.create_trial(
        state=state,
        value=one.score if state is TrialState.COMPLETE else None,
        params={name: _drawn(space[name], one.values[name]) for name in space},
        distributions=distributions,
        intermediate_values=one.curve if state is TrialState.PRUNED else None,
    )


def _direction(mode: str) -> StudyDirection:
    return StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE


def _distribution(dimension: Dimension) -> BaseDistribution:
    """Optuna's word for it; choices are drawn by their place, as they may be of any kind."""
    if isinstance(dimension, Choice):
        return CategoricalDistribution(range(len(dimension.values)))
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), dimension.log, int(dimension.step or 1))
    return FloatDistribution(dimension.low, dimension.high, dimension.log, dimension.step)


def _value(dimension: Dimension, drawn: Any) -> Any:
    return dimension.values[drawn] if isinstance(dimension, Choice) else dimension.rounded(drawn)


def _drawn(dimension: Dimension, value: Any) -> Any:
    if isinstance(dimension, Choice):
        return dimension.values.index(value)
    if isinstance(dimension, Range) and not dimension.whole:
        return float(value)
    return value
