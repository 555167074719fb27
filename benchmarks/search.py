"""What a search costs, and what it saves.

    python benchmarks/search.py [--trials 12] [--repeats 1]

Trials on scikit-learn's digits: in parallel from a warm server, against the 2018 template's way, a fresh
`python train.py` for each, one after the other; both in one run, as whole commands. Then successive halving against the
full grid, and what a trial and a suggestion cost by themselves. About 6 minutes on 2 cores.
"""

import argparse
import datetime
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from engine.search import Choice, Evidence, Range
from engine.search.sampling import suggest
from tests.support.folders import same_results

DIGITS = json.loads((ROOT / "experiments" / "learning_rate" / "params.json").read_text()) | {"num_channels": 8}
SHORT, LONG = DIGITS | {"num_epochs": 2}, DIGITS | {"num_epochs": 40}
HALVING = {"num_channels": [4, 8, 12], "weight_decay": [0.0, 0.01, 0.1]}
WORKERS = 2
RATES = {"learning_rate": [0.0003, 0.003, 0.03]}


def make_search(parent: Path, params: dict[str, Any], settings: dict[str, Any]) -> Path:
    """The folder of a search."""
    parent.mkdir(parents=True)
    (parent / "params.json").write_text(json.dumps(params))
    (parent / "search.json").write_text(json.dumps(settings))
    return parent


def seconds(*words: str) -> float:
    """Wall seconds of a script as a whole process, which must end well."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, check=True)
    return time.perf_counter() - start


def trials(parent: Path) -> list[Path]:
    """The folders of the trials."""
    return sorted(path.parent for path in parent.glob("*/params.json"))


def status(trial: Path) -> dict[str, Any]:
    """What status.json says."""
    return json.loads((trial / "status.json").read_text())


def compare_ways(place: Path, name: str, params: dict[str, Any], count: int) -> None:
    """The same trials searched, and trained one after the other by a fresh process each."""
    rates = [round(0.001 * 1.3**number, 6) for number in range(count)]
    searched = make_search(place / f"{name} searched", params, {"space": {"learning_rate": rates}})
    ours = seconds("search_hyperparams.py", "--parent_dir", str(searched), "--num_workers", str(WORKERS))
    alone = make_search(place / f"{name} alone", params, {"space": {"learning_rate": rates}})
    seconds("search_hyperparams.py", "--parent_dir", str(alone), "--prepare")
    theirs = sum(seconds("train.py", "--model_dir", str(trial)) for trial in trials(alone))
    differing = sum(not same_results(one, other) for one, other in zip(trials(searched), trials(alone), strict=True))
    trained = statistics.median(epoch_seconds(trial) for trial in trials(alone))
    print(
        f"{count} trials of {trained:.2f} s of training: searched {ours:.1f} s, one after the other {theirs:.1f} s, "
        f"ratio 1/{theirs / ours:.1f} = {ours / theirs:.2f}; {differing} of {count} with other results"
    )
    starts, begun = [made(trial) for trial in trials(searched)], [began(trial) for trial in trials(searched)]
    ends = [status(trial)["updated"] for trial in trials(searched)]
    in_trials = sum(end - start for start, end in zip(starts, ends, strict=True))
    between = (WORKERS * (max(ends) - min(starts)) - in_trials) / count
    before = statistics.median(begin - start for start, begin in zip(starts, begun, strict=True))
    epochs = statistics.median(epoch_seconds(trial) for trial in trials(searched))
    own = statistics.median(end - begin for begin, end in zip(begun, ends, strict=True)) - epochs
    print(
        f"  per trial: {1000 * before:.0f} ms from the search to the first line of the run, {1000 * between:.0f} ms "
        f"until the next one; the run's own reading, saving and logging beyond its epochs: {1000 * own:.0f} ms"
    )


def made(trial: Path) -> float:
    """When the search gave the trial to a worker: right after its params.json was written."""
    return (trial / "params.json").stat().st_mtime


def began(trial: Path) -> float:
    """When `train.py` said its first word in the log."""
    day, clock, *_ = (trial / "train.log").read_text().split()
    return datetime.datetime.fromisoformat(f"{day} {clock.replace(',', '.')}").timestamp()


def epoch_seconds(trial: Path) -> float:
    """How long training and validation took, over all epochs."""
    return json.loads((trial / "metrics.jsonl").read_text().splitlines()[-1])["seconds"]


def compare_pruning(place: Path) -> None:
    """27 configurations, each trained to the end, and with successive halving."""
    params = DIGITS | {"num_epochs": 27, "ema_decay": 0.9, "schedule": "constant"}
    found = {}
    for pruning in ("none", "halving"):
        settings = {"space": {**RATES, **HALVING}, "pruning": pruning}
        parent = make_search(place / pruning, params, settings)
        wall = seconds("search_hyperparams.py", "--parent_dir", str(parent))
        epochs = sum(len((trial / "metrics.jsonl").read_text().splitlines()) for trial in trials(parent))
        best = json.loads((parent / "best.json").read_text())
        found[pruning] = epochs
        print(f"{pruning}: {epochs} epochs in {wall:.1f} s, best accuracy {best['score']:.4f} with {best['name']}")
    print(f"  epochs {found['halving'] / found['none']:.2f} of the full grid's")
    noise = make_search(place / "noise", params | {"learning_rate": 0.003}, {"space": {}, "seeds": [1, 2, 3, 4, 5]})
    seconds("search_hyperparams.py", "--parent_dir", str(noise))
    scores = [json.loads((trial / "metrics_val_best_weights.json").read_text())["accuracy"] for trial in trials(noise)]
    print(
        f"  one configuration over 5 seeds: {min(scores):.4f} to {max(scores):.4f}, std {statistics.stdev(scores):.4f}"
    )


def time_suggestions() -> None:
    """How long TPE takes for suggestion 1,000, its study built anew from 999 results."""
    space = {
        "learning_rate": Range(1e-4, 1e-1, log=True),
        "net": Choice(("a", "b")),
        "width": Range(8, 64, 8, whole=True),
    }
    draw = random.Random(0)
    known = [Evidence(suggest("random", space, 1, n), "finished", draw.random()) for n in range(999)]
    times = []
    for attempt in range(11):
        start = time.perf_counter()
        suggest("tpe", space, 1, 999, known, "max", attempt)
        times.append(time.perf_counter() - start)
    print(f"suggestion 1,000: median {1000 * statistics.median(times):.0f} ms")


def main() -> None:
    """Print the ratios beside their goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    time_suggestions()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.repeats):
            place = Path(folder, str(number))
            compare_ways(place, "short", SHORT, options.trials)
            compare_ways(place, "long", LONG, options.trials // 2)
            compare_pruning(place)
    print("goals: 1/6 for the short trials, 0.4 for the long ones, a third of the epochs, 50 ms, 100 ms")


if __name__ == "__main__":
    main()
