"""Several processes of one run: started by the real torchrun, or forked from the warm server under its environment."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch.distributed import TCPStore

from tests.support import scripts
from tests.support.scripts import Finished

IN_TURN = "tests.support.together"  # as a module for torchrun: many scripts in one start


def torchrun(*words: object, output: Path, count: int = 2, options: tuple[str, ...] = (), path: Path | None = None):
    """Run `torchrun --nproc_per_node count words...` to its end; its output passes through files in `output`."""
    process = start_torchrun(*words, output=output, count=count, options=options, path=path)
    scripts.wait_for_end(process)
    return Finished(process.exitcode, (output / "stdout").read_text(), (output / "stderr").read_text())


def start_torchrun(
    *words: object, output: Path, count: int = 2, options: tuple[str, ...] = (), path: Path | None = None
):
    """The same, begun: a process that is the launcher; what it starts are plain Python programs."""
    output.mkdir(exist_ok=True)
    arguments = [*options, "--nproc_per_node", str(count), *map(str, words)]
    process = scripts.context.Process(target=_launch, args=(arguments, output, path))
    process.start()
    return process


def _launch(arguments: list[str], output: Path, path: Path | None) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(output / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(scripts.ROOT)
    places = [str(place) for place in (path, scripts.ROOT) if place is not None]
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(places)}
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
) -> list[Finished]:
    """Run a script in so many processes that are forked, which takes no start; returns how each ended.

    A process whose rank is among the `faults` calls what is there before it begins.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # with the launcher, as torchrun has it
    places = [output / f"process_{rank}" for rank in range(count)]
    processes = []
    for rank, place in enumerate(places):
        place.mkdir(exist_ok=True)
        said = Environment(rank, count, store.port, (faults or {}).get(rank))
        processes.append(scripts.start(script, *arguments, output=place, path=path, before=said))
    for process in processes:
        scripts.wait_for_end(process)
    ends = zip(processes, places, strict=True)
    return [Finished(p.exitcode, (place / "stdout").read_text(), (place / "stderr").read_text()) for p, place in ends]


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

    def __init__(self, rank: int, count: int, port: int, then: Callable[[], None] | None = None) -> None:
        self.then = then
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
        self.values = {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
        self.values |= {name: str(value) for name, value in places.items()}

    def __call__(self) -> None:
        os.environ |= self.values
        if self.then is not None:
            self.then()


if __name__ == "__main__":
    run_in_turn(json.loads(sys.argv[1]))
