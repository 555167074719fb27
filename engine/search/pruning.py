"""When to give a trial up: Optuna's pruners, fed from what the folders say of the other trials."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator

import optuna
from optuna.trial import FrozenTrial, TrialState

from engine.errors import UserError
from engine.experiment import Experiment, Pruned
from engine.hyperparameters import KEYS, Values
from engine.search.outcomes import Evidence, read_curve, trial_folders
from engine.search.sampling import direction

REDUCTION = 3  # of as many trials that come to a rung of halving, the best one goes on


def make_pruner(experiment: Experiment, pruning: str, seed: int | None) -> Callable[[int, Values], None]:
    """The hook of the training loop that ends a trial when others with this seed, None for any, are ahead of it."""
    num_epochs = experiment.params().num_epochs
    epochs_to_decide = pruning_epochs(pruning, num_epochs)

    def on_epoch(epoch: int, scores: Values) -> None:
        if epoch in epochs_to_decide:
            record = experiment.run()
            monitor, mode = record["monitor"], record["mode"]
            curve, others = read_curve(experiment, monitor), rivals(experiment, monitor, seed)
            if is_to_be_pruned(pruning, curve, others, num_epochs, mode):
                raise Pruned(f"{pruning} pruning: {monitor} {scores[monitor]:.4g} after epoch {epoch}")

    return on_epoch


def rivals(experiment: Experiment, monitor: str, seed: int | None) -> Iterator[Evidence]:
    """The other trials of the same search as they are now; only those with this seed, if there are several."""
    for other, params in trial_folders(experiment.folder.parent):
        if other.folder != experiment.folder and seed in (None, params.get("seed", KEYS["seed"].default)):
            with contextlib.suppress(UserError):
                yield Evidence(params, other.status.read().get("state", ""), curve=read_curve(other, monitor))


def is_to_be_pruned(
    pruning: str, curve: dict[int, float], rivals: Iterable[Evidence], num_epochs: int, mode: str
) -> bool:
    """Whether a trial with this `curve` (epoch -> score) is to be given up, given those of its rivals."""
    shortest = _shortest(num_epochs)
    pruner: optuna.pruners.BasePruner
    if pruning == "median":
        pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=shortest)
    else:
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=shortest, reduction_factor=REDUCTION)
    study = optuna.create_study(direction=direction(mode), pruner=pruner)
    study.add_trials([_with_curve(one.curve, shortest, one.state == "finished") for one in rivals if one.curve])
    study.add_trial(_with_curve(curve, shortest, is_finished=False, is_asking=True))
    return pruner.prune(study, study.trials[-1])


def pruning_epochs(pruning: str, num_epochs: int) -> set[int]:
    """The epochs after which there is something to decide."""
    shortest = _shortest(num_epochs)
    if pruning == "median":
        return set(range(shortest, num_epochs))
    return {epoch for epoch in _rungs(shortest, num_epochs) if epoch < num_epochs}


def _shortest(num_epochs: int) -> int:
    """After how many epochs a trial is first looked at."""
    return max(1, num_epochs // REDUCTION**3)


def _rungs(shortest: int, num_epochs: int) -> list[int]:
    count = max(0, math.floor(math.log(num_epochs / shortest, REDUCTION) + 1e-9)) + 1
    return [shortest * REDUCTION**rung for rung in range(count)]


def _with_curve(curve: dict[int, float], shortest: int, is_finished: bool, is_asking: bool = False) -> FrozenTrial:
    """A trial that has come as far as `curve`, with the mark that Optuna leaves at each rung of halving it has passed.

    One that is asking is at its last epoch just now, and has no mark for that one yet.
    """
    last = max(curve)
    passed = [epoch for epoch in _rungs(shortest, last) if not (is_asking and epoch == last)]
    marks = [(f"completed_rung_{rung}", curve.get(epoch, math.nan)) for rung, epoch in enumerate(passed)]
    return optuna.trial.create_trial(
        state=TrialState.COMPLETE if is_finished else TrialState.RUNNING,
        value=0.0 if is_finished else None,  # one is asked for, but pruners look at the way alone
        intermediate_values=curve,
        system_attrs={name: score for name, score in marks if not math.isnan(score)},
    )
