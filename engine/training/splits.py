"""The splits of a run known again: when it goes on, and when examples are scored that it was not trained on."""

import logging
from typing import Any

from torch import Tensor

from engine.data import fingerprint, may_share, sketch
from engine.errors import UserError
from engine.hyperparameters import Params, Values
from engine.training.checkpoint import Checkpoint
from engine.training.task import Task, ask_for

SPLITS = "_splits"  # in data.json: the fingerprint of each


def split_fingerprints(loaders: dict[str, Any]) -> Values:
    """Which examples are in which split, in few letters, as far as the loaders can tell; kept with what was learned."""
    told = {split: fingerprint(batches) for split, batches in loaders.items()}
    known = {split: letters for split, letters in told.items() if letters is not None}
    return {SPLITS: known} if known else {}


def split_sketches(loaders: dict[str, Any]) -> dict[str, Tensor]:
    """Enough of each split to see later whether another one may have examples of it, as far as the loaders can tell."""
    told = {split: sketch(batches) for split, batches in loaders.items()}
    return {split: kept for split, kept in told.items() if kept is not None}


def check_examples(learned: Values, loaders: dict[str, Any]) -> None:
    """Raise `UserError` for a split with other examples than the run began with, or in another order."""
    if others := _others(learned, loaders):
        raise UserError(
            f"{' and '.join(others)}: other examples than when this run began, or another order; what the loader draws "
            "is to follow from params.seed, and what it finds in folders is to be sorted"
        )


def check_newness(task: Task, checkpoint: Checkpoint, split: str, batches: Any, params: Params) -> None:
    """Raise `UserError` for a split that training did not ask for, if the loader has drawn all of its splits anew.

    Where none of its examples looks like one that was trained on, that cannot be, and nothing more is done. Else the
    loader is asked for what it was trained on once more; if that is what it was, the likeness has another cause.
    """
    learned, sketches = checkpoint.get("learned", {}), checkpoint.get("sketches", {})
    if split in sketches or not any(may_share(batches, kept) for kept in sketches.values()):
        return
    try:
        again = ask_for(task, list(sketches), params)
    except Exception as error:  # of data that are here no more it can be anything
        logging.warning(
            f"{split} has examples that look like some of {' or '.join(sketches)}; whether they are cannot be told, as "
            f"the loader no longer gives these: {' '.join(str(error).split())}"
        )
        return
    if others := _others(learned, again):
        raise UserError(
            f"{split}: some of it may have been trained on, as the loader draws {' and '.join(others)} anew each time; "
            "what it draws is to follow from params.seed, and the run is to be made again (--fresh)"
        )


def _others(learned: Values, loaders: dict[str, Any]) -> list[str]:
    """The splits that have other examples than those of which fingerprints were kept."""
    before, now = (values.get(SPLITS, {}) for values in (learned, split_fingerprints(loaders)))
    return sorted(split for split in now if before.get(split, now[split]) != now[split])
