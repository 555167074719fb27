"""Metrics that are functions of outputs and labels: what they say of batches that are scored together."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from engine.errors import UserError, form_of
from engine.nested import count_examples, map_tensors
from engine.randomness import generator_states, restore_generators, seed_everything
from engine.seeds import derive

Functions = dict[str, Callable[[Any, Any], Any]]


class Size(NamedTuple):
    """By what the mean over a batch is weighed, and the seed under which the batch was computed."""

    examples: int | None  # where that can be told, as only means over them have to know
    asked: int | None  # so many of the data set, where that is known
    seed: int

    @classmethod
    def of(cls, counted: Any, asked: int | None) -> "Size":
        """The size of the batch that is being computed; `counted` is that of which the examples are counted."""
        try:
            examples = count_examples(counted, asked)
        except UserError:
            examples = None
        return cls(examples, asked, torch.initial_seed())


Seen = tuple[Size, Any, Any]  # what functions are shown of a batch: outputs and labels, as arrays


def totals_of(functions: Functions, batches: Sequence[Seen]) -> list[tuple[str, float, float]]:
    """The name, total and count that each function has for each batch.

    Where one draws at random, that follows from the batch alone, and not from which others are scored with it.
    """
    if not batches:
        return []
    before = generator_states()
    totals = [each for batch in batches for each in _totals(functions, *batch)]
    if generator_states() != before:
        totals = []
        for batch in batches:
            seed_everything(derive(batch[0].seed, "scores"))
            totals += _totals(functions, *batch)
        restore_generators(before)
    return totals


def _totals(functions: Functions, size: Size, outputs: Any, labels: Any) -> Iterator[tuple[str, float, float]]:
    for name, function in functions.items():
        result = function(*map_tensors(np.copy, (outputs, labels), np.ndarray))  # its own ones, which it may change
        if isinstance(result, tuple):
            examples = 1
        else:
            examples = size.examples or count_examples(counted_of(outputs, labels), size.asked)
        try:
            total, count = result if isinstance(result, tuple) else (result * examples, examples)
            yield name, float(total), float(count)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f'net.py: the metric "{name}" returns {form_of(result)}, not a number or (total, count)'
            ) from error


def counted_of(outputs: Any, labels: Any) -> Any:
    """That of which the examples are counted."""
    return outputs if labels is None else labels
