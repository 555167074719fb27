"""How a search went on: the best score so far, over its trials and over time."""

from collections.abc import Sequence
from typing import NamedTuple

from engine.hyperparameters import Values


class Step(NamedTuple):
    """A configuration whose runs have come to an end."""

    trial: int  # its place among those of the study
    score: float
    begun: float  # seconds since 1970
    ended: float
    is_pruned: bool


def progress(steps: Sequence[Step], mode: str) -> Values:
    """Configurations in the order in which they ended: which, after how many seconds, and the best one until then.

    What was given up is there, and never the best: it was scored after fewer epochs than the others.
    """
    ordered = sorted(steps, key=lambda step: step.ended)
    start = min(step.begun for step in steps)
    best: float | None = None
    best_so_far = []
    for step in ordered:
        if not step.is_pruned and (best is None or (step.score > best if mode == "max" else step.score < best)):
            best = step.score
        best_so_far.append(best)
    return {
        "trials": [step.trial for step in ordered],
        "seconds": [round(max(step.ended - start, 0.0), 1) for step in ordered],
        "best": best_so_far,
    }
