"""What a launcher of several processes, such as torchrun, says of this one. Never imports torch."""

import os
import platform
import sys
from pathlib import Path

from engine.errors import ToldElsewhere, UserError


def process_count() -> int:
    """How many processes make up this run, on all machines together."""
    return int(os.environ["WORLD_SIZE"]) if "RANK" in os.environ and "WORLD_SIZE" in os.environ else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return int(os.environ["RANK"]) if process_count() > 1 else 0


def local_rank() -> int:
    """Which of those on this machine this one is, from 0."""
    return int(os.environ.get("LOCAL_RANK", 0)) if process_count() > 1 else 0


def machine() -> str:
    """The machine that this process is on, by a name that each of the run has to itself."""
    return os.environ.get("GROUP_RANK", platform.node())


def is_first() -> bool:
    """Whether this is the process that decides, writes and speaks for all: the first of a run, or its only one."""
    return rank() == 0


def refuse_several(what: str) -> None:
    """Raise `UserError` if there are several processes, for what one process does."""
    if process_count() > 1:
        refusal = UserError if is_first() else ToldElsewhere
        raise refusal(f"{what} is for one process: python {Path(sys.argv[0]).name}, without a launcher")


def is_supervised() -> bool:
    """Whether torchrun looks after this process, to which any exit status but 0 is a failure."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def attempt() -> int:
    """How often torchrun has started the processes again after one of them failed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
