"""One pass over a split: its seeds, and how it is begun in all parts of a loader, and what these remember of it."""

import itertools
import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

from engine.data.seeded import chain
from engine.randomness import seed_everything, seed_generators

# This process's share, with how many examples were asked for it, and what was for the whole batch; or, where that is
# not known, the whole batch
Batch = tuple[Any, int | None, Any]


class Pass(NamedTuple):
    """One pass over a split: its number, the seed of its order, and that of all else that is drawn in it."""

    number: int
    order_seed: int
    seed: int


def begin_pass(loader: Any, this: Pass) -> None:
    """Tell the loader's parts which pass it is, and seed all generators, theirs too, with the seed of its order."""
    parts = parts_of(loader)
    for part in parts:
        if callable(getattr(part, "set_epoch", None)):
            part.set_epoch(this.number)
    seed_everything(this.order_seed)
    for part in parts:
        seed_generators(part, this.order_seed)


def parts_of(loader: Any) -> list[Any]:
    """A loader, its samplers and its data sets, one in the other."""
    ways = [chain(loader, "dataset"), chain(loader, "batch_sampler"), chain(loader, "sampler")]
    ways.append(chain(getattr(loader, "batch_sampler", None), "sampler"))
    return list({id(part): part for part in itertools.chain(*ways)}.values())


def plain_attributes(parts: Iterable[Any]) -> dict[str, Any]:
    """The numbers and words that the parts of a loader keep as attributes, private ones left out."""
    attributes = ((type(part).__name__, vars(part)) for part in parts if hasattr(part, "__dict__"))
    return {
        f"{kind}.{name}": value
        for kind, values in attributes
        for name, value in values.items()
        if isinstance(value, int | float | str) and not name.startswith("_")
    }


def told_of_memory(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Warn of attributes that a pass has changed, if there are any; returns whether there were."""
    changed = [name for name, value in before.items() if after.get(name, value) != value]
    for name in changed:
        logging.warning(
            f"{name} was {before[name]} and is {after[name]} after a pass: what a loader remembers is lost when a run "
            "is stopped and goes on; a method set_epoch(epoch) is told the number of the pass"
        )
    return bool(changed)
