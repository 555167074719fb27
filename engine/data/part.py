"""A part of a split, to look at less of it than there is: drawn evenly over the whole, for files often lie by class."""

import copy
import logging
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler, Subset

from engine.data.batches import TensorBatches
from engine.wording import counted


def part_of(batches: Any, most: int | None) -> Any:
    """The batches, or where there are more than `most`, so many, of examples from all over the split.

    A loader whose order is its own, be it drawn or a stream, is left as it is and told: its first batches are the part.
    """
    length = length_of(batches)
    if most is None or (length is not None and length <= most):
        return batches
    part: Any
    if isinstance(batches, TensorBatches):
        part = copy.copy(batches)
        chosen = _spread(len(batches.rows), most * batches.batch_size)
        part.rows, part.members = batches.rows[chosen], batches.members[chosen]
    elif _is_in_order(batches):
        size = batches.batch_sampler.batch_size
        chosen = _spread(len(batches.batch_sampler.sampler), most * size)
        kept = ("num_workers", "collate_fn", "pin_memory", "worker_init_fn", "multiprocessing_context")
        part = DataLoader(Subset(batches.dataset, chosen), size, **{name: getattr(batches, name) for name in kept})
    else:
        what = f"the first {counted(most, 'batch')} of an order of its loader's own are scored"
        logging.warning(f"max_eval_batches: {what}, and not a part drawn over the whole")
        return batches
    if getattr(batches, "names", None) is not None:
        part.names = [batches.names[index] for index in chosen]
    return part


def length_of(batches: Any) -> int | None:
    """How many batches a loader says that a pass has; None for a stream, which does not know."""
    try:
        return len(batches)
    except (TypeError, NotImplementedError):  # of a `DataLoader`, where its sampler has none
        return None


def count_of(batches: Any) -> int | None:
    """How many examples a split has, where its loader tells."""
    if isinstance(batches, TensorBatches):
        return len(batches.rows)
    dataset: Any = getattr(batches, "dataset", None)
    if isinstance(batches, DataLoader) and not isinstance(dataset, IterableDataset) and hasattr(dataset, "__len__"):
        return len(dataset)
    return None


def count_in(batches: Any, most: int) -> int | None:
    """How many examples the first `most` batches of a pass hold, where that is known before."""
    size = getattr(batches, "batch_size", None)
    if size is None or isinstance(getattr(batches, "dataset", None), IterableDataset):
        return None
    if isinstance(batches, TensorBatches):
        return min(len(batches.rows), most * size)
    drawn = length_of(batches.sampler) if type(batches) is DataLoader else None
    return None if drawn is None else min(drawn, most * size)


def _spread(total: int, count: int) -> list[int]:
    """So many places out of `total`, evenly apart."""
    return [index * total // count for index in range(count)]


def _is_in_order(batches: Any) -> bool:
    plain = type(batches) is DataLoader and not isinstance(batches.dataset, IterableDataset)
    in_batches = plain and type(batches.batch_sampler) is BatchSampler
    return in_batches and type(batches.batch_sampler.sampler) is SequentialSampler
