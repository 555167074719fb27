"""Evaluate a trained network on a split that training did not see.

    python evaluate.py --model_dir experiments/base
    python evaluate.py --model_dir experiments/base --split val --restore_file last
    python evaluate.py --parent_dir "experiments/learning_rate/learning_rate=0.001,seed=*"

Each look at a split is on record in the experiment's run.json.
"""

import argparse
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from engine.comparison import choose_entries, group_entries
from engine.errors import UserError, command, run
from engine.experiment import Entry, Evaluation, StopRequest, code_now, plan_evaluation
from engine.files import stamps
from engine.hosting import hosted
from engine.hyperparameters import Params, Values
from engine.launcher import is_first, refuse_several


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `arguments` stand in for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model_dir", default="experiments/base", help="folder of the experiment")
    which.add_argument("--parent_dir", metavar="GROUP", help="each experiment in a folder, or in a row of the results")
    parser.add_argument("--data_dir", help="data to evaluate on, if not what it was trained on")
    parser.add_argument("--restore_file", default="best", help="checkpoint: best, last, or a path")
    parser.add_argument("--max_eval_batches", type=int, help="take only so many; if absent the whole split")
    parser.add_argument("--split", default="test", help="which part of the data: test, val, train")
    options = parser.parse_args(arguments)
    if options.max_eval_batches is not None and options.max_eval_batches < 1:
        parser.error(f"--max_eval_batches must be at least 1, not {options.max_eval_batches}")
    return options


def read_members(options: argparse.Namespace) -> list[Entry]:
    """The experiments of the group, in the order of their names. Raises `UserError` if none of them is finished."""
    entries = choose_entries(Path(options.parent_dir))
    if not any(entry.has_run for entry in entries):
        raise UserError(f"{options.parent_dir}: no experiment has been run here")
    if not any(entry.is_finished for entry in entries):
        raise UserError(f"{options.parent_dir}: no experiment is finished here; --model_dir evaluates one all the same")
    return entries


def plan_for(model_dir: str | Path, options: argparse.Namespace) -> Evaluation:
    """What to evaluate of one experiment."""
    return plan_evaluation(model_dir, options.split, options.restore_file, options.data_dir, options.max_eval_batches)


def decide(arguments: Sequence[str] | None = None) -> argparse.Namespace | Evaluation:
    """What to evaluate, by the command line: one experiment, or those of a group, which the options name."""
    options = parse_arguments(arguments)
    if not options.parent_dir:
        return plan_for(options.model_dir, options)
    refuse_several("--parent_dir")
    options.members = read_members(options)
    return options


if __name__ == "__main__":  # what is wrong ends here, before the seconds that importing torch takes
    decided: Any = run(decide) if is_first() else None  # the first of several tells the others

import logging
import sys
import traceback

import torch
from torch import nn

from engine import training
from engine.comparison import summarize
from engine.data import EMPTY, SamePass, TensorBatches, count_of, part_of
from engine.nested import as_pair
from engine.training import Device, Losses, Predictions, Processes, Scores, Task, TerminalLog
from engine.wording import score_line


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
        with training.label_errors_explained(outputs, labels):
            loss = None if labels is None else task.loss_fn(outputs, labels)
    return None if loss is None else training.mean_losses(loss, outputs, labels, asked), outputs, labels


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[Any],
    task: Task,
    params: Params,
    device: Device,
    processes: Processes | None = None,
    predictions: Predictions | None = None,
) -> dict[str, float]:
    """The metrics and losses of the model over all `batches`, none without labels; fills `predictions`, if given."""
    model.eval()
    processes = processes or Processes()
    scores = Scores(task.metrics(params), processes=processes)
    bar = training.progress_bar(getattr(batches, "split", "evaluation"), getattr(batches, "count", None))
    with bar, training.batch_errors_explained(scores, batches):
        for batch in processes.each(itertools.islice(batches, params.max_eval_batches)):
            if batch is EMPTY:  # it has fewer rows than there are processes
                for counter in (scores, predictions) if predictions is not None else (scores,):
                    counter.skip()
                continue
            batch = device.move(batch)
            examples = getattr(batches, "examples", None)
            with device.autocast():
                losses, outputs, labels = forward(task, model, batch, params, examples)
            scores.add(losses, outputs, labels, examples)
            if predictions is not None:
                predictions.add(outputs, labels, examples, getattr(batches, "indices", None))
            bar.update(processes.examples or scores.examples - bar.n)
    return scores.compute() if scores.batches else {}


def evaluate_experiment(plan: Evaluation, processes: Processes | None = None) -> dict[str, float]:
    """Evaluate a checkpoint on a split, and leave metrics, predictions and report in the experiment's folder."""
    experiment, params, processes = plan.experiment, plan.params, processes or Processes()
    checkpoint = processes.from_first(lambda: training.read_own_checkpoint(plan))
    params.learn(checkpoint.get("learned", {}))
    params.provide(is_other_data=plan.is_on_other_data)
    device = training.device_for(params)
    logging.info(f"Evaluating {plan.checkpoint} on {plan.split}, on {device}")
    if processes.is_first:
        experiment.warn_of_edits()
    if plan.is_on_other_data:
        logging.info(f"{params.data_dir} are other data than this run's: the scores do not count as its own")

    task = training.load_task(params.task, params)
    edited = processes.from_first(lambda: experiment.edited_code(code_now(params.task)))
    if edited:
        logging.warning(
            f"The code was edited since this run was trained: {', '.join(edited)}; it is scored as it is now"
        )
    with processes.first_of_machine_first():
        batches = training.fetch_batches(task, [plan.split], params, device)[plan.split]
    if not plan.is_on_other_data:
        training.check_examples(checkpoint.get("learned", {}), {plan.split: batches})
        training.check_newness(task, checkpoint, plan.split, batches, params)
    if isinstance(batches, TensorBatches):
        batches.shuffle = False  # the order of its names
    whole, batches = count_of(batches), part_of(batches, params.max_eval_batches)
    model = device.place(task.Net(params))
    training.load_weights(model, checkpoint["state_dict"], plan.checkpoint)

    training.release_log()
    predictions = Predictions(plan.name, batches, params, task.predict, model)
    same_pass = SamePass(batches, params.seed, plan.split, processes.share)
    with training.torch_errors_explained(params.batch_size):
        scores = evaluate(model, same_pass, task, params, device, processes, predictions)
    predictions.gather(processes)
    if processes.is_first:
        record(plan, task, scores, predictions, whole, edited)
    return scores


def record(
    plan: Evaluation,
    task: Task,
    scores: dict[str, float],
    predictions: Predictions,
    whole: int | None,
    edited: list[str],
) -> None:
    """Leave scores, predictions and the task's report in the experiment's folder."""
    experiment, params = plan.experiment, plan.params
    before = stamps(experiment.folder)
    predictions.finish()
    part = f" ({predictions.examples} of {whole or 'some'} examples)" if params.max_eval_batches else ""
    logging.info(f"- {plan.split}{part}: {score_line(scores) or 'no labels, only predictions'}")
    look = {**plan.look, "edited": edited, "examples": predictions.examples, "of": whole, "scores": scores}
    experiment.record_evaluation(plan.split, plan.tag, look)
    predictions.write(experiment.file(f"predictions_{plan.name}.csv"))
    if scores and task.report is not None:
        task.report(predictions, experiment.folder)
    written = [name for name, stamp in stamps(experiment.folder).items() if before.get(name) != stamp]
    logging.info(f"Wrote {', '.join(sorted(name for name in written if not name.endswith('.log')))}")


def evaluate_group(options: argparse.Namespace) -> Values:
    """Evaluate each finished experiment of a group, a line for each; one that cannot be is no end for the others."""
    entries, found, failed = options.members, {}, []
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
    print(f"Next: compare experiments with  {command('synthesize_results', '--parent_dir', folder)}")
    if failed:
        raise UserError(f"{len(failed)} of {len(failed) + len(found)} could not be evaluated: {', '.join(failed)}")
    return found


def evaluate_member(entry: Entry, options: argparse.Namespace) -> dict[str, float]:
    """Evaluate one experiment of a group; what it has to say goes to its log, and only warnings to the terminal."""
    plan = plan_for(entry.folder, options)
    training.set_logger(plan.experiment.file("evaluate.log"))
    for handler in logging.getLogger().handlers:
        if isinstance(handler, TerminalLog):
            handler.setLevel(logging.WARNING)
    return evaluate_experiment(plan)


def group_lines(entries: Sequence[Entry], scores: dict[str, dict[str, float]]) -> Iterator[str]:
    """Mean and standard deviation over each set of experiments that differ only in seed or fold."""
    for group in group_entries(entry for entry in entries if entry.name in scores):
        rows = [scores[entry.name] for entry in group.entries]
        if len(rows) > 1:
            shared = [name for name in rows[0] if all(name in row for row in rows)]
            summaries = {name: summarize([row[name] for row in rows]) for name in shared}
            told = (f"{name} {summary.mean:.4g} ± {summary.deviation:.2g}" for name, summary in summaries.items())
            yield f"{group.name}, mean ± standard deviation of {len(rows)}: {', '.join(told)}"


def carry_out(decided: argparse.Namespace | Evaluation | None) -> Values:
    """Evaluate what was decided on, and say what one would type next; returns the scores, of a group by name.

    Of several processes the first has decided, and the others hear of it.
    """
    with StopRequest() as stop, training.joined(stop) as processes:  # a signal ends it, with nothing half written
        plan = processes.from_first(lambda: decided)
        assert plan is not None
        return evaluate_group(plan) if isinstance(plan, argparse.Namespace) else evaluate_one(plan, processes)


def evaluate_one(plan: Evaluation, processes: Processes) -> Values:
    """Evaluate one experiment, and say what one would type next."""
    training.set_logger(plan.experiment.file("evaluate.log"))
    scores = evaluate_experiment(plan, processes)
    parent = plan.experiment.folder.parent
    if processes.is_first:
        print(f"Next: compare experiments with  {command('synthesize_results', '--parent_dir', parent)}")
    return scores


def main(arguments: Sequence[str] | None = None) -> Values:
    """Evaluate the checkpoint of an experiment, or of each in a group; returns the scores, of a group by name."""
    with hosted("evaluate", arguments):
        return carry_out(decide(arguments) if is_first() else None)


if __name__ == "__main__":
    run(lambda: carry_out(decided))
