"""What to try next: Optuna's samplers, fed from what the folders say.

The folders are the truth: a study lives in memory only, and is built from them each time something is asked.
"""

import datetime
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from engine.hyperparameters import Values
from engine.search.description import Search
from engine.search.outcomes import Evidence
from engine.search.space import Choice, Dimension, known_by
from engine.seeds import derive

SOME_TIME = datetime.datetime(2000, 1, 1)  # Optuna wants one, and its samplers do not look at it
MOST_VAIN = 100  # draws one after the other that were drawn before; then hardly anything is left
MOST_GUIDED = 10  # suggestions until one comes that is not there yet
optuna.logging.set_verbosity(optuna.logging.WARNING)


def random_draws(search: Search) -> Iterator[Values]:
    """Random configurations, each another one, until there are no more; the n-th is the same every time."""
    drawn, vain = set[str](), 0
    for number in itertools.count():
        if vain == MOST_VAIN or len(drawn) == search.size:
            break
        values = suggest("random", search.space, search.seed, number)
        vain = vain + 1 if known_by(values) in drawn else 0
        if vain == 0:
            drawn.add(known_by(values))
            yield values
    if search.size < math.inf:
        yield from (values for values in map(search.at, search.shuffled()) if known_by(values) not in drawn)


def guided_draws(search: Search, evidence: list[Evidence], mode: str) -> Iterator[Values]:
    """What TPE suggests next, some other ones in case it is there already, and then random ones: TPE may insist."""
    for attempt in range(MOST_GUIDED):
        yield suggest("tpe", search.space, search.seed, len(evidence), evidence, mode, attempt)
    yield from random_draws(search)


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
        study = optuna.create_study(sampler=sampler, direction=direction(mode))
        study.add_trials([_frozen(one, space, distributions) for one in evidence])
    drawn = study.ask(distributions).params
    return {name: _value(space[name], drawn[name]) for name in space}


def _frozen(one: Evidence, space: dict[str, Dimension], distributions: dict[str, BaseDistribution]) -> FrozenTrial:
    states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    state = states.get(one.state, TrialState.RUNNING)
    if state is TrialState.COMPLETE and one.score is None:
        state = TrialState.FAIL
    return FrozenTrial(  # as optuna.trial.create_trial would, in half the time: `add_trials` checks it anyway
        number=0,
        trial_id=0,
        state=state,
        value=one.score if state is TrialState.COMPLETE else None,
        datetime_start=SOME_TIME,
        datetime_complete=SOME_TIME if state.is_finished() else None,
        params={name: _drawn(space[name], one.values[name]) for name in space},
        distributions=distributions,
        user_attrs={},
        system_attrs={},
        intermediate_values=one.curve if state is TrialState.PRUNED else {},
    )


def direction(mode: str) -> StudyDirection:
    """Optuna's word for `max` and `min`."""
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
        return dimension.place(value)
    return int(value) if dimension.whole else float(value)
