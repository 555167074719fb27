"""Compare experiments in one table.

    python synthesize_results.py --parent_dir experiments
    python synthesize_results.py --parent_dir experiments --sort loss --columns learning_rate accuracy
    python synthesize_results.py --parent_dir experiments --report
    python synthesize_results.py --diff experiments/base experiments/wide

A row per experiment at any depth; those that differ only in seed or fold are one row, with mean and spread. The whole
table is written to results.md and results.csv in the same folder.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote

from engine.comparison import (
    Group,
    Table,
    csv_text,
    difference_between,
    find_group,
    group_entries,
    json_text,
    latex,
    make_table,
    markdown,
    terminal_text,
)
from engine.errors import DiskError, UserError, run
from engine.experiment import SEARCH, Entry, read_entries
from engine.files import replacing
from engine.hosting import hosted
from engine.hyperparameters import Values

FORMATS = ("table", "markdown", "csv", "json", "latex")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `arguments` stand in for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parent_dir", default="experiments", help="folder whose experiments to compare")
    parser.add_argument("--sort", metavar="COLUMN", help="best rows first in this column; else in what runs watch")
    parser.add_argument("--no_group", action="store_true", help="a row for each seed and fold")
    parser.add_argument("--columns", nargs="+", metavar="COLUMN", default=[], help="show these; params, too")
    parser.add_argument("--format", choices=FORMATS, default="table", help="what to print")
    parser.add_argument("--report", action="store_true", help="write report.html: table, curves, search, provenance")
    parser.add_argument("--diff", nargs=2, metavar=("A", "B"), help="tell what two experiments, or two rows, differ in")
    options = parser.parse_args(arguments)
    options.columns = [name for names in options.columns for name in names.split(",") if name]
    return options


def find_entries(parent: Path) -> list[Entry]:
    """The experiments to compare. Raises `UserError` where there are none, and says how to get some."""
    if not os.path.isdir(parent):
        raise UserError(f"{parent}: no such folder; --parent_dir is the folder that your experiments are in")
    entries, place = read_entries(parent), quote(str(parent))
    if not entries and (parent / SEARCH).is_file():
        raise UserError(f"{parent}: nothing has been run here; python search_hyperparams.py --parent_dir {place}")
    if not entries:
        command = f"python train.py --model_dir {quote(str(parent / 'first'))} --from experiments/base"
        raise UserError(f"{parent}: no experiment has been run here; {command}")
    return entries


def write_files(table: Table, parent: Path) -> list[Path]:
    """Keep the whole table beside the experiments; where nothing can be written, a warning will do."""
    written = []
    for name, text in (("results.md", markdown(table)), ("results.csv", csv_text(table))):
        try:
            with replacing(parent / name) as file:
                file.write(text.encode("utf-8", errors="backslashreplace"))
            written.append(parent / name)
        except DiskError as error:
            print(f"warning: {error}", file=sys.stderr)
    return written


def as_text(table: Table, options: argparse.Namespace) -> str:
    """What to print of the table."""
    if options.format == "table":
        width = shutil.get_terminal_size(fallback=(0, 0)).columns  # 0: no terminal, so any width will do
        return terminal_text(table, options.columns, width or None)
    formats = {"markdown": markdown, "csv": csv_text, "json": json_text, "latex": latex}
    return formats[options.format](table, options.columns)


def farewell(table: Table, parent: Path, files: Sequence[Path]) -> Iterator[str]:
    """Where the table lies, and what one would type next."""
    if files:
        yield f"Written: {', '.join(map(str, files))}"
    yield f"Next: curves, provenance, search  python synthesize_results.py --parent_dir {quote(str(parent))} --report"
    first = table.groups[0]
    if any(entry.is_finished and entry.val for entry in first.entries) and not any(
        entry.test for entry in first.entries
    ):
        is_one = len(first.entries) == 1
        option, path = ("--model_dir", first.entries[0].folder) if is_one else ("--parent_dir", parent / first.name)
        yield f"      test the first row           python evaluate.py {option} {quote(str(path))}"


def main(arguments: Sequence[str] | None = None) -> list[Values]:
    """Compare the experiments below a folder, or two of them; returns the rows, as `--format json` has them."""
    with hosted("synthesize_results", arguments):
        options = parse_arguments(arguments)
        table = carry_out(options)
        return list(json.loads(json_text(table, options.columns))) if table else []


def carry_out(options: argparse.Namespace) -> Table | None:
    """Show what the command line asks for, and write it down; returns the table, if it is one."""
    parent = Path(options.parent_dir)
    if options.diff:
        print(difference_between(*(find_group(parent, name) for name in options.diff)))
        return None
    entries = find_entries(parent)
    if options.report:
        from engine.report import write_report  # plotly and Optuna are slow to import

        print(f"Written: {write_report(parent, entries)}")
        return None
    groups = [Group([entry]) for entry in entries] if options.no_group else group_entries(entries)
    table = make_table(groups, options.sort, options.columns)
    files = write_files(table, parent)
    text = as_text(table, options)
    print("\n".join([text, "", *farewell(table, parent, files)]) if options.format == "table" else text.rstrip("\n"))
    return table


if __name__ == "__main__":  # without the rows that `main` returns: of ten thousand they take seconds
    run(lambda: carry_out(parse_arguments()))
