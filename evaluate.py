"""Evaluate a trained network on a split that training did not see.

python evaluate.py --model_dir experiments/base
python evaluate.py --model_dir experiments/base --split val --restore_file last
"""

import argparse
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from engine.errors import run
from engine.experiment import Experiment
from engine.hyperparameters import Params


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `arguments` stand in for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_dir", default="experiments/base", help="folder of the experiment")
    parser.add_argument("--data_dir", help="data to evaluate on, if not what it was trained on")
    parser.add_argument("--restore_file", default="best", help="checkpoint: best, last, or a path")
    parser.add_argument("--split", default="test", help="which part of the data: test, val, train")
    return parser.parse_args(arguments)


def read_params(options: argparse.Namespace) -> tuple[Experiment, Params]:
    """The experiment and its checked hyperparameters."""
    experiment = Experiment(options.model_dir)
    return experiment, experiment.params(data_dir=options.data_dir)


if __name__ == "__main__":  # wrong arguments and params end here, before the seconds that importing torch takes
    run(lambda: read_params(parse_arguments()))

import logging

import torch
from torch import nn

from engine.checkpoint import load_weights, read_checkpoint
from engine.data import TensorBatches
from engine.device import Device, choose_device
from engine.explanations import label_errors_explained, torch_errors_explained
from engine.metrics import Scores
from engine.nested import as_pair
from engine.predictions import Predictions, default_predict
from engine.randomness import seed_everything
from engine.task import Task, fetch_batches, load_task
from engine.tracking import release_log, score_line, set_logger


def forward(task: Task, model: nn.Module, batch: Any, params: Params) -> tuple[Any, Any, Any]:
    """One batch through the network, in training and in evaluation: (loss, outputs, labels)."""
    if task.step is not None:
        return task.step(model, batch, params)
    inputs, labels = as_pair(batch)
    outputs = model(inputs)
    if labels is None:  # nothing to score, only to predict
        return None, outputs, None
    with label_errors_explained(outputs, labels):
        loss = task.loss_fn(outputs, labels)
    return loss, outputs, labels


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
    seed_everything(params.seed)
    scores = Scores(task.metrics(params))
    for batch in itertools.islice(batches, params.max_eval_batches):
        batch = device.move(batch)
        with device.autocast():
            loss, outputs, labels = forward(task, model, batch, params)
        if loss is not None:
            scores.add(loss, outputs, labels)
        if predictions is not None:
            predictions.add(outputs, labels)
    return scores.compute() if scores.batches else {}


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate the checkpoint of an experiment, and leave metrics, predictions and report in its folder."""
    options = parse_arguments(arguments)
    experiment, params = read_params(options)
    set_logger(experiment.file("evaluate.log"))
    checkpoint_path = experiment.checkpoint(options.restore_file)
    checkpoint = read_checkpoint(checkpoint_path)
    params.provide(**checkpoint.get("learned", {}))

    device = choose_device(params.device, params.precision, params.channels_last, params.threads)
    params.provide(cuda=device.device.type == "cuda")
    logging.info(f"Evaluating {checkpoint_path} on {options.split}, on {device}")
    task = load_task(params.task, params)
    batches = fetch_batches(task, [options.split], params, device)[options.split]
    if isinstance(batches, TensorBatches):
        batches.shuffle = False  # the order of its names
    model = device.place(task.Net(params))
    load_weights(model, checkpoint["state_dict"], checkpoint_path)

    release_log()
    predictions = Predictions(options.split, batches, params, task.predict or default_predict)
    with torch_errors_explained(params.batch_size):
        scores = evaluate(model, batches, task, params, device, predictions)
    predictions.finish()
    logging.info(f"- {options.split}: {score_line(scores) or 'no labels, only predictions'}")
    experiment.record_evaluation(options.split, checkpoint_path, scores)
    predictions.write(experiment.file(f"predictions_{options.split}.csv"))
    if scores and task.report is not None:
        task.report(predictions, experiment.folder)
    print(f"Next: compare experiments with  python synthesize_results.py --parent_dir {experiment.folder.parent}")


if __name__ == "__main__":
    run(main)
