"""Train one experiment per choice of hyperparameters, one after the other.

    python search_hyperparams.py --parent_dir experiments/learning_rate

The folder's params.json is what all trials share. What varies stands in search.json beside it, as lists of values of
which every combination is tried: {"space": {"learning_rate": [0.0001, 0.001, 0.01]}}; these three, if it is not there.
Run it again: trials that are finished stay as they are, the others go on.
"""

import argparse
import itertools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from engine.errors import UserError, run
from engine.experiment import Experiment
from engine.files import read_json
from engine.hyperparameters import Values, load_params

COURSE_SPACE = {"learning_rate": [1e-4, 1e-3, 1e-2]}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `arguments` stand in for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parent_dir", default="experiments/learning_rate", help="folder of the search")
    parser.add_argument("--data_dir", help="folder with the data, in place of data_dir in params.json")
    return parser.parse_args(arguments)


def read_space(parent: Path) -> dict[str, list[Any]]:
    """What to vary: the values of each hyperparameter. Raises `UserError` for anything but lists."""
    path = parent / "search.json"
    space = read_json(path).get("space") if path.is_file() else COURSE_SPACE
    if not isinstance(space, dict) or not all(isinstance(values, list) and values for values in space.values()):
        raise UserError(f'{path}: "space" must name hyperparameters with a list of values each')
    return space


def make_trials(parent: Path) -> Iterator[tuple[Experiment, Values]]:
    """The folder of every trial and what its params.json is to hold; all are checked before the first one starts."""
    shared, space = read_json(parent / "params.json"), read_space(parent)
    for choice in itertools.product(*space.values()):
        varied = dict(zip(space, choice, strict=True))
        trial = Experiment(parent / ",".join(f"{key}={value}" for key, value in varied.items()).replace("/", "_"))
        load_params(trial.file("params.json"), {**shared, **varied})
        yield trial, {**shared, **varied}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train every trial of a search."""
    options = parse_arguments(arguments)
    failed = []
    for trial, values in list(make_trials(Path(options.parent_dir))):
        print(f"--- {trial.folder}", flush=True)
        trial.write_params(values)
        data = ["--data_dir", options.data_dir] if options.data_dir else []
        command = [sys.executable, "train.py", "--model_dir", str(trial.folder), *data]
        if subprocess.run(command, check=False).returncode != 0:
            failed.append(trial.folder.name)
    if failed:
        print(f"failed: {', '.join(failed)} (why stands in their status.json and train.log)", file=sys.stderr)
    print(f"Next: python synthesize_results.py --parent_dir {options.parent_dir}")


if __name__ == "__main__":
    run(main)
