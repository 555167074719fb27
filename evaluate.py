"""Evaluate a trained network on a split that training did not see.

python evaluate.py --model_dir experiments/base
python evaluate.py --model_dir experiments/base --split val --restore_file last
python evaluate.py --parent_dir "experiments/learning_rate/learning_rate=0.001,seed=*"
"""

import argparse
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from engine.comparison import choose_entries, group_entries
from engine.errors import UserError, run
from engine.experiment import Entry, Experiment, StopRequest
from engine.hyperparameters import Params


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `arguments` stand in for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model_dir", default="experiments/base", help="folder of the experiment")
    which.add_argument("--parent_dir", metavar="GROUP", help="each experiment in a folder, or in a row of the results")
    parser.add_argument("--data_dir", help="data to evaluate on, if not what it was trained on")
    parser.add_argument("--restore_file", default="best", help="checkpoint: best, last, or a path")
    parser.add_argument("--split", default="test", help="which part of the data: test, val, train")
    return parser.parse_args(arguments)


def read_params(options: argparse.Namespace) -> tuple[Experiment, Params]:
    """The experiment and its checked hyperparameters."""
    experiment = Experiment(options.model_dir)
    return experiment, experiment.recorded_params(options.data_dir)


def read_members(options: argparse.Namespace) -> list[Entry]:
    """The experiments of the group, in the order of their names. Raises `UserError` if none of them is finished."""
    entries = choose_entries(Path(options.parent_dir))
    if not any(entry.has_run for entry in entries):
        raise UserError(f"{options.parent_dir}: no experiment has been run here")
    if not any(entry.is_finished for entry in entries):
        raise UserError(f"{options.parent_dir}: no experiment is finished here; --model_dir evaluates one all the same")
    return entries


def check(options: argparse.Namespace) -> None:
    """Raise `UserError` for arguments or params that are wrong."""
    read_members(options) if options.parent_dir else read_params(options)


if __name__ == "__main__":  # wrong arguments and params end here, before the seconds that importing torch takes
    run(lambda: check(parse_arguments()))

import logging
import sys
import traceback

import torch
from torch import nn

from engine.comparison import summarize
from engine.data import SamePass, TensorBatches
from engine.nested import as_pair
from engine.training import (
    Device,
    Losses,
    Predictions,
    Scores,
    Task,
    TerminalLog,
    default_predict,
    device_for,
    fetch_batches,
    label_errors_explained,
    load_task,
    load_weights,
    mean_losses,
    read_checkpoint,
    release_log,
    score_line,
    set_logger,
    torch_errors_explained,
)


def forward(
    task: Task, model: nn.Module, batch: Any, params: Params, asked: int | None = None
) -> tuple[Losses | None, Any, Any]:
    """One batch through the network, in training and in evaluation: (losses, outputs, labels).

    Without labels, or where the task's `step` gives no loss, there is nothing to score, only to predict.
    """
    if task.step is not None:
        loss, outputs, labels = task.step(model, batch, params)
    else:
        inputs, labels = as_pair(batch)
        outputs = model(inputs)
        with label_errors_explained(outputs, labels):
            loss = None if labels is None else task.loss_fn(outputs, labels)
    return None if loss is None else mean_losses(loss, outputs, labels, asked), outputs, labels


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[Any],
    task: Task,
    params: Params,
    device: Device,
    predictions: Predictions | None = None,
) -> dict[str, float]:
    """The metrics and losses of the model over all `batches`, none without labels; fills `predictions`, if given."""
    model.eval()
    scores = Scores(task.metrics(params))
    for batch in itertools.islice(batches, params.max_eval_batches):
        batch = device.move(batch)
        examples = getattr(batches, "examples", None)
        with device.autocast():
            losses, outputs, labels = forward(task, model, batch, params, examples)
        scores.add(losses, outputs, labels, examples)
        if predictions is not None:
            predictions.add(outputs, labels)
    return scores.compute() if scores.batches else {}


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate the checkpoint of an experiment, or of each in a group."""
    options = parse_arguments(arguments)
    with StopRequest():  # a signal ends it where it is, with nothing half written
        evaluate_group(options) if options.parent_dir else evaluate_one(options)


def evaluate_one(options: argparse.Namespace) -> None:
    """Evaluate the checkpoint of an experiment, and say what one would type next."""
    experiment, params = read_params(options)
    set_logger(experiment.file("evaluate.log"))
    evaluate_experiment(experiment, params, options.restore_file, options.split)
    parent = quote(str(experiment.folder.parent))
    print(f"Next: compare experiments with  python synthesize_results.py --parent_dir {parent}")


def evaluate_experiment(experiment: Experiment, params: Params, restore_file: str, split: str) -> dict[str, float]:
    """Evaluate a checkpoint on a split, and leave metrics, predictions and report in the experiment's folder."""
    checkpoint_path = experiment.checkpoint(restore_file)
    checkpoint = read_checkpoint(checkpoint_path)
    params.learn(checkpoint.get("learned", {}))

    device = device_for(params)
    logging.info(f"Evaluating {checkpoint_path} on {split}, on {device}")
    experiment.warn_of_edits()
    task = load_task(params.task, params)
    batches = fetch_batches(task, [split], params, device)[split]
    if isinstance(batches, TensorBatches):
        batches.shuffle = False  # the order of its names
    model = device.place(task.Net(params))
    load_weights(model, checkpoint["state_dict"], checkpoint_path)

    release_log()
    predictions = Predictions(split, batches, params, task.predict or default_predict, model)
    with torch_errors_explained(params.batch_size):
        scores = evaluate(model, SamePass(batches, params.seed, split), task, params, device, predictions)
    predictions.finish()
    logging.info(f"- {split}: {score_line(scores) or 'no labels, only predictions'}")
    experiment.record_evaluation(split, checkpoint_path, params.data_dir, scores)
    predictions.write(experiment.file(f"predictions_{split}.csv"))
    if scores and task.report is not None:
        task.report(predictions, experiment.folder)
    return scores


def evaluate_group(options: argparse.Namespace) -> None:
    """Evaluate each finished experiment of a group, a line for each; one that cannot be is no end for the others."""
    entries, found, failed = read_members(options), {}, []
    for entry in entries:
        if not entry.is_finished:
            print(f"{entry.name}: left out: {entry.state or 'not run'}")
            continue
        try:
            scores = evaluate_member(entry, options)
        except Exception as error:
            if not isinstance(error, UserError):
                traceback.print_exc()
            print(f"{entry.name}: not evaluated: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
            failed.append(entry.name)
        else:
            found[entry.name] = scores
            print(f"{entry.name}: {score_line(scores) or 'no labels, only predictions'}", flush=True)
    for line in group_lines(entries, found):
        print(line)
    folder = options.parent_dir if Path(options.parent_dir).is_dir() else Path(options.parent_dir).parent
    print(f"Next: compare experiments with  python synthesize_results.py --parent_dir {quote(str(folder))}")
    if failed:
        raise UserError(f"{len(failed)} of {len(failed) + len(found)} could not be evaluated: {', '.join(failed)}")


def evaluate_member(entry: Entry, options: argparse.Namespace) -> dict[str, float]:
    """Evaluate one experiment of a group; what it has to say goes to its log, and only warnings to the terminal."""
    experiment = Experiment(entry.folder)
    params = experiment.recorded_params(options.data_dir)
    set_logger(experiment.file("evaluate.log"))
    for handler in logging.getLogger().handlers:
        if isinstance(handler, TerminalLog):
            handler.setLevel(logging.WARNING)
    return evaluate_experiment(experiment, params, options.restore_file, options.split)


def group_lines(entries: Sequence[Entry], scores: dict[str, dict[str, float]]) -> Iterator[str]:
    """Mean and standard deviation over each set of experiments that differ only in seed or fold."""
    for group in group_entries(entry for entry in entries if entry.name in scores):
        rows = [scores[entry.name] for entry in group.entries]
        if len(rows) > 1:
            shared = [name for name in rows[0] if all(name in row for row in rows)]
            summaries = {name: summarize([row[name] for row in rows]) for name in shared}
            told = (f"{name} {summary.mean:.4g} ± {summary.deviation:.2g}" for name, summary in summaries.items())
            yield f"{group.name}, mean ± standard deviation of {len(rows)}: {', '.join(told)}"


if __name__ == "__main__":
    run(main)
