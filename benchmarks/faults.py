"""How much is lost when things go wrong: killed runs, damaged checkpoints, mangled params, full disks.

    python benchmarks/faults.py [--kills 300] [--search_kills 100] [--damages 1000] [--mutations 500]

Real processes, forked from one that has imported torch, are killed with SIGKILL at random times and run again until
they end; what they end with is compared with an undisturbed run's, to the bit. So are the workers of a search, and the
search itself. Linux only. About 15 minutes.
"""

import argparse
import contextlib
import functools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from engine.errors import UserError
from engine.hyperparameters import KEYS
from engine.training import read_checkpoint
from tests.support import faults, scripts
from tests.support.folders import same, same_results

SIGKILL_STATUS = -9
NOISY = {
    "task": "tests.projects.noisy",
    "data_dir": "none",
    "batch_size": 32,
    "num_epochs": 4,
    "learning_rate": 0.01,
    "schedule": "cosine",
    "ema_decay": 0.9,
    "grad_clip": 1.0,
    "save_steps": 3,
    "save_summary_steps": 3,
}
KINDS: dict[str, dict[str, Any]] = {
    "resident": NOISY | {"loader": "resident"},
    "resident, accumulate": NOISY | {"loader": "resident", "accumulate": 2},
    "DataLoader": NOISY | {"loader": "workers"},
    "DataLoader, 2 workers": NOISY | {"loader": "workers", "num_workers": 2},
    "DataLoader, 2 that stay": NOISY | {"loader": "persistent", "num_workers": 2},
    "stream": NOISY | {"loader": "stream", "max_train_batches": 7},
    "part of a pass": NOISY | {"loader": "resident", "steps_per_epoch": 4, "num_epochs": 7},
    "no checkpoint within": NOISY | {"loader": "resident", "save_steps": None, "schedule": "plateau"},
}


def make_folder(folder: Path, params: dict[str, Any]) -> Path:
    """An experiment folder with these params."""
    folder.mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps(params))
    return folder


def kill_until_done(folder: Path, longest: float, kills: int, draw: random.Random) -> int:
    """Run an experiment to its end, killed at a random time up to `kills` times; returns how often it was."""
    killed = 0
    while True:
        process = scripts.start("train", "--model_dir", folder, output=folder.parent)
        if killed < kills:
            process.join(draw.uniform(0.05, longest))
            process.kill()
        process.join()
        if process.exitcode == 0:
            return killed
        if process.exitcode != SIGKILL_STATUS:
            raise AssertionError(f"{folder}: status {process.exitcode}\n{(folder.parent / 'stderr').read_text()}")
        killed += 1


def study_kills(place: Path, kills: int, draw: random.Random) -> tuple[int, int]:
    """SIGKILLs at random times, dealt out over all kinds of loader: how many there were, how many ends differed."""
    done = differing = 0
    wholes = {}
    for kind, params in KINDS.items():
        wholes[kind] = make_folder(place / "whole" / kind / "run", params)
        start = time.perf_counter()
        assert scripts.run("train", "--model_dir", wholes[kind], output=wholes[kind].parent).status == 0
        wholes[kind + " seconds"] = time.perf_counter() - start  # type: ignore[assignment]
    number = 0
    while done < kills:
        for kind, params in KINDS.items():
            number += 1
            folder = make_folder(place / str(number) / "run", params)
            longest: Any = wholes[kind + " seconds"]
            done += kill_until_done(folder, longest, 5, draw)
            differing += not same_results(folder, wholes[kind])
    print(
        f"SIGKILL at random times: {done} over {len(KINDS)} kinds of loader in {number} runs, {differing} differences"
    )
    return done, differing


def study_search_kills(place: Path, kills: int, draw: random.Random, count: int = 60) -> int:
    """SIGKILLs of the workers and, each eighth time, of the search, until all is done: what was lost or done twice."""
    parent = make_folder(place / "search", NOISY | {"loader": "resident", "num_epochs": 40})
    rates = [round(0.001 + 0.0003 * number, 5) for number in range(count)]
    (parent / "search.json").write_text(json.dumps({"space": {"learning_rate": rates}}))
    killed = {"workers": 0, "searches": 0}
    ended: dict[Path, bytes] = {}
    while len(finished(parent)) < count:  # what was killed too often waits for the next call
        kill_in_search(parent, kills, draw, killed, ended)
    again = sum(record(trial) != content for trial, content in ended.items())
    wrong_names = {path.parent for path in parent.glob("*/params.json")} ^ {
        parent / f"learning_rate={rate}" for rate in rates
    }
    differing = 0
    for trial in finished(parent):
        whole = make_folder(place / "alone" / trial.name / "run", json.loads((trial / "params.json").read_text()))
        assert scripts.run("train", "--model_dir", whole, output=whole.parent).status == 0
        differing += not same_results(trial, whole)
    print(
        f"search of {count} trials in 4 workers: {killed['workers']} workers and {killed['searches']} searches killed; "
        f"{again} finished trials rerun, {len(wrong_names)} lost or too many, {differing} with other results"
    )
    return again + len(wrong_names) + differing


def kill_in_search(
    parent: Path, kills: int, draw: random.Random, killed: dict[str, int], ended: dict[Path, bytes]
) -> None:
    """One call of a search, in which somebody is killed now and then; notes in `ended` what each trial ended with."""
    command = [sys.executable, "search_hyperparams.py", "--parent_dir", str(parent), "--num_workers", "4"]
    with (parent / "output").open("w") as output:
        search = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    while search.poll() is None:
        time.sleep(draw.uniform(0.02, 0.4))
        ended.update((trial, record(trial)) for trial in finished(parent) - ended.keys())
        workers = working(parent)
        if workers and sum(killed.values()) < kills:
            if draw.random() < 1 / 8:
                search.kill()
                killed["searches"] += 1
            else:
                with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(draw.choice(workers), signal.SIGKILL)
                killed["workers"] += 1
    assert search.wait() in (0, -signal.SIGKILL), (parent / "output").read_text()


def record(trial: Path) -> bytes:
    """What a trial has left of its course: provenance and epochs."""
    return (trial / "run.json").read_bytes() + (trial / "metrics.jsonl").read_bytes()


def finished(parent: Path) -> set[Path]:
    """The trials that say they are finished."""
    return {path.parent for path in parent.glob("*/status.json") if '"finished"' in path.read_text()}


def working(parent: Path) -> list[int]:
    """The process numbers of those who are training a trial."""
    told = [json.loads(path.read_text()) for path in parent.glob("*/status.json")]
    pids = [status["pid"] for status in told if status["state"] == "running"]
    return [pid for pid in pids if "forkserver" in read_text(Path(f"/proc/{pid}/cmdline"))]


def read_text(path: Path) -> str:
    """The text of a file, or nothing if it is gone."""
    try:
        return path.read_text()
    except OSError:
        return ""


def study_damages(place: Path, damages: int, draw: random.Random) -> int:
    """Flipped bits and truncations of a checkpoint: how many were read as something else than was written."""
    path = place / "whole" / "resident" / "run" / "last.pth.tar"
    content, true = path.read_bytes(), read_checkpoint(path)
    outcome = {"refused": 0, "read as it was": 0, "read wrong": 0}
    damaged = place / "damaged.pth.tar"
    for data in damaged_contents(content, damages, draw):
        damaged.write_bytes(data)
        try:
            outcome["read as it was" if same(read_checkpoint(damaged), true) else "read wrong"] += 1
        except UserError:
            outcome["refused"] += 1
    print(
        f"{damages} flipped bits and {damages} truncations: " + ", ".join(f"{n} {what}" for what, n in outcome.items())
    )
    return outcome["read wrong"]


def damaged_contents(content: bytes, damages: int, draw: random.Random) -> Iterator[bytes]:
    """The content with one bit flipped, so many times; then cut off somewhere, as many times."""
    for _ in range(damages):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        yield bytes(flipped)
    for _ in range(damages):
        yield content[: draw.randrange(len(content))]


def study_params(place: Path, mutations: int, draw: random.Random) -> int:
    """Mangled params.json files: how many ended in a traceback. Those that happen to be right train for a step."""
    wrong = refused = 0
    for number in range(mutations):
        folder = make_folder(place / "params" / str(number) / "run", {})
        (folder / "params.json").write_bytes(mangled(draw))
        done = scripts.run("train", "--model_dir", folder, output=folder.parent)
        refused += done.status == 2
        wrong += "Traceback" in done.stderr or done.status not in (0, 2)
        if "Traceback" in done.stderr:
            print((folder / "params.json").read_bytes(), done.stderr, file=sys.stderr)
    print(f"{mutations} mangled params files: {refused} refused in one line, {wrong} tracebacks")
    return wrong


def mangled(draw: random.Random) -> bytes:
    """A params.json in which one key has another kind of value, or whose text is damaged in one place."""
    params: dict[str, Any] = KINDS["resident"] | {"num_epochs": 1, "max_train_batches": 2}
    if draw.random() < 0.5:
        odd = [None, True, -1, 0, 0.5, 1e30, "", "x", "../x", [], [1, 2, 3], {}, {"a": 1}, 2**70]
        params[draw.choice([*KEYS, *params])] = draw.choice(odd)
        if params.get("threads") not in (None, 1):
            params["threads"] = draw.choice(odd[:7])  # a valid one may be thousands
        return json.dumps(params).encode()
    text = bytearray(json.dumps(params).encode())
    place = draw.randrange(len(text))
    text[place : place + draw.randrange(3)] = bytes(draw.randrange(256) for _ in range(draw.randrange(3)))
    return bytes(text)


def study_full_disk(place: Path) -> int:
    """A limit on the size of files, in small steps, under a run that is to go on: how many could not afterwards."""
    lost = tried = 0
    params = KINDS["resident"] | {"save_steps": None}
    whole = make_folder(place / "full" / "whole" / "run", params)
    scripts.run("train", "--model_dir", whole, output=whole.parent)
    largest = max(path.stat().st_size for path in whole.rglob("*"))
    for size in range(400, largest + 400, 400):
        folder = make_folder(place / "full" / str(size) / "run", params)
        die = functools.partial(faults.act_at_batch, 16, faults.die)
        scripts.run("train", "--model_dir", folder, before=die, output=folder.parent)
        limit = functools.partial(faults.limit_file_size, size)
        done = scripts.run("train", "--model_dir", folder, before=limit, output=folder.parent)
        assert done.status in (0, 1), done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        scripts.run("train", "--model_dir", folder, output=folder.parent)
        tried += done.status == 1
        lost += not same_results(folder, whole)
    print(f"disk full: {tried} runs stopped by it at files of 0.4 to {largest / 1000:.1f} kB, {lost} lost")
    return lost


def main() -> None:
    """Run all studies; status 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--search_kills", type=int, default=100)
    parser.add_argument("--damages", type=int, default=1000)
    parser.add_argument("--mutations", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        bad = study_kills(place, options.kills, draw)[1]
        bad += study_search_kills(place, options.search_kills, draw)
        bad += study_damages(place, options.damages, draw)
        bad += study_params(place, options.mutations, draw)
        bad += study_full_disk(place)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
