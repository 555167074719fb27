"""Predict new inputs with a trained network: files, folders of them, texts, or lines of standard input (-).

    python predict.py --model_dir experiments/base photo.jpg more_photos/
    python predict.py --model_dir experiments/base more_photos/ --out predictions.csv
    python predict.py --model_dir examples/segmentation/experiments/base more_photos/ --out masks/
    python predict.py --model_dir examples/ner/experiments/tiny "Ada Lovelace lived in London"
    python predict.py --model_dir experiments/base --export model.pt2

The experiment's folder is all that is needed; what the task learned from its data is in there.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from engine.errors import UserError, run
from engine.experiment import Evaluation, plan_evaluation
from engine.hosting import bar_kind, hosted
from engine.hyperparameters import Params
from engine.launcher import refuse_several


class Request(NamedTuple):
    """What to predict, with which checkpoint, and where to."""

    plan: Evaluation
    words: Sequence[str]
    out: str | None
    export: str | None


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `arguments` stand in for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="*", metavar="FILE", help="a file, a folder, a text, or - for standard input")
    parser.add_argument("--model_dir", default="experiments/base", help="folder of the experiment")
    parser.add_argument("--restore_file", default="best", help="checkpoint: best, last, or a path")
    parser.add_argument("--out", metavar="TABLE", help="write the predictions to this .csv or .jsonl, or pictures/")
    parser.add_argument("--export", metavar="MODEL", help="write the network as .pt2 or .onnx, tried on the inputs")
    return parser.parse_args(arguments)


def decide(arguments: Sequence[str] | None = None) -> Request:
    """What is asked for, by the command line. Raises `UserError` if it cannot be done."""
    options = parse_arguments(arguments)
    refuse_several("predict.py")
    if options.export and not options.export.endswith((".pt2", ".onnx")):
        raise UserError(f"--export {options.export}: must end in .pt2 or .onnx")
    if not options.inputs and not options.export:
        raise UserError("there is nothing to predict: name files, folders or texts")
    if options.out and not options.out.endswith((".csv", ".jsonl", "/", os.sep)):
        raise UserError(f"--out {options.out}: must end in .csv or .jsonl, or in / where the task gives pictures")
    for name in ("out", "export"):  # now, and not when all is predicted
        if (path := getattr(options, name)) and not path.endswith(("/", os.sep)) and not Path(path).parent.is_dir():
            raise UserError(f"--{name} {path}: there is no folder {Path(path).parent}; make it first")
    plan = plan_evaluation(options.model_dir, restore_file=options.restore_file)
    return Request(plan, options.inputs or [plan.params.data_dir], options.out, options.export)


if __name__ == "__main__":  # what is wrong ends here, before the seconds that importing torch takes
    decided = run(decide)

import logging
import sys
from collections.abc import Iterator
from typing import Any

import torch
from tabulate import tabulate
from torch import nn

from engine import training
from engine.randomness import seed_everything
from engine.report import write_model_card
from engine.training import Album, Columns, Device, Inputs, Predictions, ReadInput, Task, find_sources, read_inputs
from engine.wording import counted

TRIED = 8  # inputs on which an exported network is compared with itself
MOST_SHOWN = 20  # predictions on the terminal, and files that could not be read


def reader(task: Task) -> ReadInput:
    """The task's function that reads what is new. Raises `UserError` if it has none."""
    if task.read_input is None:
        raise UserError(f"{task.name}/data_loader.py: has no read_input(source, params), which reads what is new")
    return task.read_input


@torch.no_grad()
def predict(
    model: nn.Module, batches: Iterator[Inputs], task: Task, request: Request, device: Device, album: Album
) -> Columns:
    """The columns of the table: `file`, then what the task says of each example, its pictures by their names."""
    params = request.plan.params
    says = (lambda columns, params: columns) if task.predict_new is not None else task.predict
    predictions = Predictions("new", None, params, says, model)
    names: list[str] = []
    for inputs in batches:
        batch = device.move(inputs.batch)
        with device.autocast():
            told = answer(model, batch, inputs.names, task, params)
        predictions.add(album.kept(told, inputs.names) if task.predict_new else told, None, len(inputs.names))
        names += inputs.names
    predictions.finish()
    return {"file": names, **predictions.columns}


def answer(model: nn.Module, batch: Any, names: Sequence[str], task: Task, params: Params) -> Any:
    """What the task's `predict_new` gives for new examples, else the outputs.

    `step`, where the task has one, gets the batch as the loader would give it.
    """
    if task.transform_inputs is not None:
        batch = task.transform_inputs(batch, params)
    if task.predict_new is not None:
        return task.predict_new(model, batch, names, params)
    return model(batch) if task.step is None else task.step(model, batch, params)[1]


def main(arguments: Sequence[str] | None = None) -> Columns:
    """Predict what the arguments name; returns the table, by columns."""
    with hosted("predict", arguments):
        return carry_out(decide(arguments))


def carry_out(request: Request) -> Columns:
    """Predict what was asked for, show or write the table, and say what could not be read; or export the network."""
    logging.disable(logging.INFO)
    model, task, device = training.load_trained(request.plan)
    logging.disable(logging.NOTSET)
    if request.export:
        export(model, task, request, Path(request.export))
        return {}
    album = Album(request.out)
    if album.folder is not None and task.predict_new is None:
        raise UserError(f"--out {request.out}: {task.name} gives no pictures, so it must end in .csv or .jsonl")
    sources = find_sources(request.words)
    unread: dict[str, str] = {}
    bar = bar_kind()(sources, unit="", delay=0.5)
    batches = read_inputs(bar, reader(task), request.plan.params, request.plan.params.batch_size, unread)
    seed_everything(request.plan.params.seed)  # for those that draw, such as a text
    columns = predict(model, batches, task, request, device, album)
    show(columns, album.table or request.out)
    for source, reason in list(unread.items())[:MOST_SHOWN]:
        print(f"{source}: {reason}", file=sys.stderr)
    if unread:
        number, rest = f"{len(unread)} of {counted(len(sources), 'input')}", len(sources) - len(unread)
        raise UserError(f"{number} could not be read{'; the others are predicted' if rest else ''}")
    return columns


def export(model: nn.Module, task: Task, request: Request, path: Path) -> None:
    """Write the network as one file, tried on real inputs, and its card beside it."""
    params, unread = request.plan.params, dict[str, str]()
    if task.step is not None:
        raise UserError(f"{task.name}/net.py: --export writes Net alone, and `step` says how a batch goes through it")
    batches = read_inputs(find_sources(request.words), reader(task), params, TRIED, unread)
    batch = next(batches, None)
    if batch is None:
        raise UserError("--export compares the file with the network on real inputs, and none could be read: name some")
    plain = model.cpu().to(memory_format=torch.contiguous_format)
    whole = training.WithPreprocessing(plain, task.transform_inputs, params)
    difference = training.export(whole, batch.batch, path)
    inputs = training.form_of_batch(batch.batch)
    write_model_card(path.with_name("model_card.md"), request.plan.experiment, params, path.name, inputs)
    number = counted(len(batch.names), "input")
    print(f"{path}: takes {inputs}; on {number} its outputs are those of the network, but for {difference:.1g}")
    print(f"{path.with_name('model_card.md')}: what it is; its uses and limits are yours to fill in")


def show(columns: Columns, out: str | None) -> None:
    """The table in a file, or its first lines on the terminal, where texts stand below each other."""
    rows = list(zip(*columns.values(), strict=True))
    if out is not None:
        training.write_table(Path(out), [*columns], rows)
        print(f"{out}: {counted(len(rows), 'prediction')}")
    elif any(isinstance(value, str) and "\n" in value for _, *values in rows for value in values):
        for name, *values in rows[:MOST_SHOWN]:
            print("\n".join([f"== {name}", *map(str, values), ""]))
    elif rows:
        print(tabulate(rows[:MOST_SHOWN], list(columns), floatfmt=".3f", disable_numparse=[0]))
        if len(rows) > MOST_SHOWN:
            print(f"... and {len(rows) - MOST_SHOWN} more; --out predictions.csv has all")


if __name__ == "__main__":
    run(lambda: carry_out(decided))
