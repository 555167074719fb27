"""How the processes of a run come together, and part at its end."""

import contextlib
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from engine import launcher
from engine.errors import Lost
from engine.experiment import StopRequest
from engine.training.presence import Presence
from engine.training.processes import Processes
from engine.training.words import POLL_SECONDS, Words

MEETING_SECONDS = 600.0  # within which all of them are to be there
LONGEST_WAIT = timedelta(minutes=30)  # for one that saves, say, once gradients are sent; NCCL's own is 10


@contextlib.contextmanager
def joined(stop: StopRequest) -> Iterator[Processes]:
    """The processes that a launcher has started, this one among them, until all have come to the end of the block."""
    if launcher.process_count() == 1:
        processes = Processes(stop=stop)
        with processes.ending_together():
            yield processes
        return
    with _met(stop) as processes, processes.ending_together():
        yield processes
        processes.any(False)
        dist.destroy_process_group()


@contextlib.contextmanager
def _met(stop: StopRequest) -> Iterator[Processes]:
    """Come together with the others, by a name of its own: an attempt before may have left the same keys."""
    rank, count = launcher.rank(), launcher.process_count()
    store, *_ = next(dist.rendezvous("env://"))
    name = _name_of_meeting(store, rank, count)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store = dist.PrefixStore(name, store)
    presence = Presence(rank, count, store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=LONGEST_WAIT)
    try:
        with presence.told():
            yield Processes(rank, count, stop, Words(store, presence), presence)
    except Exception:
        world = dist.group.WORLD
        if world is not None and torch.cuda.is_available():
            world.abort()  # what is on its way to a process that has ended: else the end of this one waits for that
        raise


def _name_of_meeting(store: Any, rank: int, count: int) -> str:
    """A name that the first has chosen and no earlier attempt has had: each leaves a word there and hears it again."""
    own, until = uuid.uuid4().hex, time.monotonic() + MEETING_SECONDS
    there = [f"{own}/{other}" for other in range(1, count)]
    if rank == 0:
        store.set("meeting", own)
    while time.monotonic() < until:
        if rank == 0 and store.check(there):
            store.set(f"{own}/all", ",".join(store.get(key).decode() for key in there))
            return own
        if rank > 0 and store.check(["meeting"]):
            name = store.get("meeting").decode()
            store.set(f"{name}/{rank}", own)
            if store.check([f"{name}/all"]) and own in store.get(f"{name}/all").decode().split(","):
                return name
        time.sleep(POLL_SECONDS)
    raise Lost(f"not all of the {count} processes have come together within {MEETING_SECONDS / 60:.0f} minutes")
