"""What the folders of trials tell samplers and pruners: which they are, and their curves. Never imports torch."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import UserError
from engine.experiment import Experiment
from engine.files import read_json
from engine.hyperparameters import Values

ENDED = ("finished", "pruned")


@dataclass(frozen=True)
class Evidence:
    """What samplers and pruners learn from: a state, a score once it is finished, a curve (epoch -> score)."""

    values: Values
    state: str
    score: float | None = None
    curve: dict[int, float] = field(default_factory=dict)


def trial_folders(parent: Path) -> Iterator[tuple[Experiment, Values]]:
    """The folders of trials below `parent`, with the content of their params.json."""
    for path in sorted(parent.glob("*/params.json")):
        with contextlib.suppress(UserError):
            params = read_json(path)
            if isinstance(params.get("_trial"), int):
                yield Experiment(path.parent), params


def read_curve(experiment: Experiment, monitor: str) -> dict[int, float]:
    """The monitored score after each epoch so far; what was no finite number, and is null in the file, is NaN."""
    scores = {row["epoch"]: row.get(f"val_{monitor}") for row in experiment.history()}
    return {epoch: math.nan if score is None else score for epoch, score in scores.items()}
