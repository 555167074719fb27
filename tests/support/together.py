"""Several processes of one run: started by the real torchrun, or forked from the warm server under its environment."""

import contextlib
import json
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch.distributed import TCPStore

from tests.support import scripts
from tests.support.scripts import Finished

LONGEST_SECONDS = 300.0
IN_TURN = "tests.support.together"  # as a module for torchrun: many scripts in one start


def torchrun(*words: object, output: Path, count: int = 2, options: tuple[str, ...] = (), path: Path | None = None):
    """Run `torchrun --nproc_per_node count words...` to its end; its output passes through files in `output`."""
    process = start_torchrun(*words, output=output, count=count, options=options, path=path)
    return ended(process, output)


def start_torchrun(
    *words: object,
    output: Path,
    count: int = 2,
    options: tuple[str, ...] = (),
    path: Path | None = None,
    environment: dict[str, str] | None = None,
):
    """The same, begun: a process that is the launcher; what it starts are plain Python programs."""
    output.mkdir(exist_ok=True)
    arguments = [*options, "--nproc_per_node", str(count), *map(str, words)]
    process = scripts.context.Process(target=_launch, args=(arguments, output, path, environment or {}))
    process.start()
    return process


def run_on_machines(runs: list[list[object]], output: Path) -> list[Finished]:
    """Run scripts one after the other, each in two processes, of two machines, for which this one stands in twice."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = ("--nnodes", "2", "--master_addr", "127.0.0.1", "--master_port", str(free.getsockname()[1]))
    words = ["-m", IN_TURN, json.dumps([[str(word) for word in run] for run in runs])]
    outputs = [output.with_name(f"{output.name}_{number}") for number in range(2)]
    launchers = [
        start_torchrun(
            *words, output=own, count=1, options=(*place, "--node_rank", str(number)), environment=as_machine(number)
        )
        for number, own in enumerate(outputs)
    ]
    return [ended(*pair) for pair in zip(launchers, outputs, strict=True)]


def as_machine(number: int) -> dict[str, str]:
    """What lets processes take themselves for such a machine: NCCL too, to which a GPU in two of them is two."""
    near = dict.fromkeys(("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"), "lo")
    without = dict.fromkeys(("NCCL_P2P_DISABLE", "NCCL_SHM_DISABLE", "NCCL_IB_DISABLE"), "1")
    return near | without | {"NCCL_HOSTID": f"machine-{number}"}


def ended(process: multiprocessing.Process, output: Path) -> Finished:
    """How a process has ended; one that hangs is killed, with all that it has started, and what it has said is seen."""
    with contextlib.suppress(AssertionError):
        scripts.wait_for_end(process, LONGEST_SECONDS)
    process.join()
    return Finished(process.exitcode, (output / "stdout").read_text(), (output / "stderr").read_text())


def _launch(arguments: list[str], output: Path, path: Path | None, environment: dict[str, str]) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(output / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(scripts.ROOT)
    places = [str(place) for place in (path, scripts.ROOT) if place is not None]
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(places), **environment}
    from torch.distributed.run import main

    main(arguments)


def run_all(runs: list[list[object]], output: Path, count: int) -> None:
    """Run scripts one after the other, `["train", "--model_dir", folder]`, in processes that torchrun starts once.

    A single process is forked.
    """
    words = [[str(word) for word in run] for run in runs]
    if count == 1:
        assert scripts.call(run_in_turn, words) == 0
    else:
        done = torchrun("-m", IN_TURN, json.dumps(words), output=output, count=count)
        assert done.status == 0, done.stderr


def run_in_turn(runs: list[list[str]]) -> None:
    """Run scripts one after the other in this process."""
    import importlib

    from engine.errors import run

    for script, *words in runs:
        run(lambda script=script, words=words: importlib.import_module(script).main(words))


def fork(
    script: str,
    *arguments: object,
    output: Path,
    count: int = 2,
    path: Path | None = None,
    faults: dict[int, Callable[[], None]] | None = None,
    on_machines: bool = False,
) -> list[Finished]:
    """Run a script in so many processes that are forked, which takes no start; returns how each ended.

    A process whose rank is among the `faults` calls what is there before it begins. On machines of their own they are
    as those of `run_on_machines` are.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # with the launcher, as torchrun has it
    places = [output / f"process_{rank}" for rank in range(count)]
    processes = []
    for rank, place in enumerate(places):
        place.mkdir(exist_ok=True)
        said = Environment(rank, count, store.port, (faults or {}).get(rank), on_machines)
        processes.append(scripts.start(script, *arguments, output=place, path=path, before=said))
    return [ended(*pair) for pair in zip(processes, places, strict=True)]


def call(function: Callable[..., object], *arguments: object, count: int = 2) -> list[int]:
    """Call a function in so many processes that are forked; returns their exit statuses."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    places = [Environment(rank, count, store.port) for rank in range(count)]
    processes = [scripts.context.Process(target=_called, args=(place, function, arguments)) for place in places]
    for process in processes:
        process.start()
    for process in processes:
        scripts.wait_for_end(process)
    return [process.exitcode for process in processes]


def _called(environment: "Environment", function: Callable[..., object], arguments: tuple[object, ...]) -> None:
    environment()
    torch.set_num_threads(1)
    function(*arguments)


class Environment:
    """What a launcher tells a process of itself."""

    def __init__(
        self, rank: int, count: int, port: int, then: Callable[[], None] | None = None, on_machine: bool = False
    ) -> None:
        self.then = then
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
        self.values = {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
        self.values |= {name: str(value) for name, value in places.items()}
        if on_machine:
            self.values |= {"LOCAL_RANK": "0", "GROUP_RANK": str(rank), **as_machine(rank)}

    def __call__(self) -> None:
        os.environ |= self.values
        if self.then is not None:
            self.then()


if __name__ == "__main__":
    run_in_turn(json.loads(sys.argv[1]))
