"""The worker processes of a loader: started, kept, and ended with the run whose they are."""

import functools
import hashlib
import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from multiprocessing.util import Finalize
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from engine.data.seeded import SeededItems
from engine.system import end_with_parent, kill_daemons, leave_stop_signals_to_parent, signals_held_back


def started(loader: Any) -> Iterator[Any]:
    """`iter(loader)`; until a worker can leave them to its parent, signals to stop wait at its door."""
    if not getattr(loader, "num_workers", 0):
        return iter(loader)
    _end_workers_of(os.getpid())
    with nullcontext() if start_method_of(loader) == "forkserver" else signals_held_back():  # a server is others' too
        return iter(loader)


def led(own: Callable[[int], object] | None) -> Callable[[int], None]:
    """What a loader's workers are to do first, `own` being the `worker_init_fn` that the task gave it."""
    return own if isinstance(own, functools.partial) and own.func is _begin else functools.partial(_begin, own)


def _begin(own: Callable[[int], object] | None, number: int) -> None:
    leave_stop_signals_to_parent()
    end_with_parent()
    info = get_worker_info()
    if info is not None and isinstance(info.dataset, SeededItems):
        object.__setattr__(info, "dataset", info.dataset.dataset)  # what the task knows by that name
    if own is not None:
        own(number)


@functools.cache
def _end_workers_of(process: int) -> Finalize:
    """Have the workers of this process killed at its end: SIGTERM, of which they would die, they leave to it."""
    return Finalize(None, kill_daemons, exitpriority=0)


def start_method_of(loader: DataLoader[Any]) -> str:
    """How the loader's workers begin: by `fork` as copies of this process, in milliseconds; else from nothing."""
    context: Any = loader.multiprocessing_context or multiprocessing
    return context.get_start_method()


class Digest(pickle.Pickler):
    """What a worker would be sent, in few bytes; tensors by their place, as they are shared with it rather than sent.

    >>> Digest.of(dataset) == Digest.of(dataset)
    True
    """

    def __init__(self) -> None:
        self.hash = hashlib.blake2b(digest_size=16)
        super().__init__(self, protocol=5)

    @classmethod
    def of(cls, *sent: Any) -> bytes | None:
        """None for what cannot be sent: the loader itself says so best."""
        digest = cls()
        try:
            digest.dump(sent)
        except Exception:
            return None
        return digest.hash.digest()

    def write(self, data: Any) -> int:
        """Take in a piece of the stream."""
        self.hash.update(data)
        return len(data)

    def persistent_id(self, value: Any) -> tuple[Any, ...] | None:
        """A tensor by where it lies and how; anything else by its content."""
        if isinstance(value, Tensor):
            value.share_memory_()  # as sending it will do
            return str(value.device), value.data_ptr(), tuple(value.shape), value.stride(), str(value.dtype)
        return None
