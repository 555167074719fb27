"""Metrics that are functions of outputs and labels: what they say of batches that are scored together."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from engine.errors import UserError, form_of
from engine.nested import count_examples, map_tensors
from engine.randomness import generator_states, restore_generators, seed_everything
from engine.seeds import derive

Functions = dict[str, Callable[[Any, Any], Any]]


class Seen(NamedTuple):
    """What functions are shown of a batch, as arrays; and by what a mean over it is weighed."""

    outputs: Any
    labels: Any
    examples: int | None  # in the batch, where that can be told
    asked: int | None  # so many of the data set, where that is known
    seed: int  # under which the batch was computed


def totals_of(functions: Functions, batches: list[Seen]) -> list[tuple[str, float, float]]:
    """The name, total and count that each function has for each batch.

    Where one draws at random, that follows from the batch alone, and not from which others are scored with it.
    """
    if not functions or not batches:
        return []
    before = generator_states()
    totals = [each for batch in batches for each in _totals(functions, batch)]
    if generator_states() != before:
        totals = []
        for batch in batches:
            seed_everything(derive(batch.seed, "scores"))
            totals += _totals(functions, batch)
        restore_generators(before)
    return totals


def examples_in(counted: Any, asked: int | None) -> int | None:
    """How many examples a batch holds, None where that cannot be told, which only a mean over them has to know."""
    try:
        return count_examples(counted, asked)
    except UserError:
        return None


def _totals(functions: Functions, batch: Seen) -> Iterator[tuple[str, float, float]]:
    for name, function in functions.items():
        outputs, labels = map_tensors(np.copy, (batch.outputs, batch.labels), np.ndarray)  # it may change them
        result = function(outputs, labels)
        if isinstance(result, tuple):
            examples = 1
        else:
            examples = batch.examples or count_examples(labels if labels is not None else outputs, batch.asked)
        try:
            total, count = result if isinstance(result, tuple) else (result * examples, examples)
            yield name, float(total), float(count)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f'net.py: the metric "{name}" returns {form_of(result)}, not a number or (total, count)'
            ) from error
