"""Compare experiments in one table.

    python synthesize_results.py --parent_dir experiments

A row per experiment at any depth: the hyperparameters in which they differ, the best validation scores, and the test
scores of those that have been evaluated. The table is written to results.md in the same folder.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from engine.errors import UserError, run
from engine.experiment import Experiment
from engine.files import replacing
from engine.hyperparameters import Values


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `arguments` stand in for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parent_dir", default="experiments", help="folder whose experiments to compare")
    return parser.parse_args(arguments)


def find_experiments(parent: Path) -> list[Experiment]:
    """Every folder below `parent` in which something was run; those that were moved aside are left out."""
    folders = {path.parent for path in parent.rglob("status.json") if ".old" not in path.parts}
    return [Experiment(folder) for folder in sorted(folders)]


def make_row(experiment: Experiment, parent: Path) -> Values:
    """What the table says of one experiment; a file that cannot be read is a remark on its row."""
    row: Values = {"experiment": experiment.folder.relative_to(parent).as_posix()}
    try:
        row.update(experiment.run().get("params", {}))
        row.update({f"val {name}": value for name, value in experiment.best_scores().items()})
        row.update({f"test {name}": value for name, value in experiment.test_scores().items()})
        row["state"] = experiment.status.shown()
    except UserError as error:
        row["state"] = f"unreadable: {error}"
    return row


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of all experiments below a folder, and write it there."""
    parent = Path(parse_arguments(arguments).parent_dir)
    rows = [make_row(experiment, parent) for experiment in find_experiments(parent)]
    if not rows:
        raise UserError(f"{parent}: no experiment has been run here; python train.py --model_dir {parent}/base")
    names = list(dict.fromkeys(name for row in rows for name in row))
    told = [name for name in names if name == "state" or len({repr(row.get(name)) for row in rows}) > 1]
    columns = [name for name in names if name in told or name.startswith(("experiment", "val ", "test "))]
    table = [[row.get(name) for name in columns] for row in rows]
    print(tabulate(table, columns, floatfmt=".4g"))
    with replacing(parent / "results.md") as file:
        file.write((tabulate(table, columns, floatfmt=".4g", tablefmt="pipe") + "\n").encode())


if __name__ == "__main__":
    run(main)
