"""Which passes a loader that a task hands over can have, each under its seed and from any batch on.

What a loader yields is what comes out. The batches of a map-style `DataLoader` can be planned, so that a pass may begin
at any of them; one that tells its state is put back by it; those of another loader are gone through from the first on.
"""

from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from engine.data.batches import TensorBatches
from engine.data.one_pass import parts_of
from engine.data.planned import PlannedPasses, TensorPasses
from engine.data.replayed import ReplayedPasses
from engine.data.shares import Share
from engine.data.stateful import StatefulPasses
from engine.errors import UserError


def passes_over(loader: Any, share: Share) -> TensorPasses | PlannedPasses | ReplayedPasses:
    """Passes over a loader, planned where that is sure to give what the loader itself would."""
    if isinstance(loader, TensorBatches):
        return TensorPasses(loader, share)
    has_state = _has_state(loader)
    if isinstance(loader, DataLoader) and _iterates_plainly(loader):
        is_stream = isinstance(loader.dataset, IterableDataset)
        if has_state:  # that of its parts; where they have none, torchdata goes through them again, under other seeds
            parts = [*parts_of(loader)[1:], *([iter(loader.dataset)] if is_stream else [])]
            has_state = any(_has_state(part) for part in parts)
        if not has_state and not is_stream:
            return PlannedPasses(loader, share)
    return StatefulPasses(loader, share) if has_state else ReplayedPasses(loader, share)


def is_sharded(loader: Any, passes: Any) -> bool:
    """Whether a loader says that it shares itself out among the processes, by `is_sharded` of it or its data set."""
    said = any(getattr(part, "is_sharded", False) is True for part in parts_of(loader))
    if said and not isinstance(passes, ReplayedPasses):
        raise UserError(
            "is_sharded is for streams: a map-style data set, or TensorBatches, is whole in each process, and its "
            "batches are shared out row by row"
        )
    return said


def _has_state(part: Any) -> bool:
    """Whether a loader or a part of it says where it is, and can be put back there."""
    return all(callable(getattr(part, name, None)) for name in ("state_dict", "load_state_dict"))


def _iterates_plainly(loader: DataLoader[Any]) -> bool:
    """Whether a `DataLoader` iterates as PyTorch's own does: nothing but how it is made is of its class's making."""
    kinds = (kind for kind in type(loader).__mro__ if kind not in DataLoader.__mro__)
    own = {name for kind in kinds if not kind.__module__.startswith("torchdata.") for name in vars(kind)}
    ways = {name for name, value in vars(DataLoader).items() if callable(value) or isinstance(value, property)}
    return not (own | set(vars(loader))) & ({name for name in ways if not name.startswith("__")} | {"__iter__"})
