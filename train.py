"""Train a network: one experiment, one folder.

    python train.py --model_dir experiments/base
    python train.py --model_dir experiments/mine --data_dir data/my_images
    python train.py --model_dir experiments/wide --from experiments/base --set num_channels=64

Run it again on the same folder, and it goes on where it was.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from engine.errors import run
from engine.experiment import Experiment
from engine.hyperparameters import Params, Values


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `arguments` stand in for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_dir", default="experiments/base", help="folder of the experiment, with params.json")
    parser.add_argument("--data_dir", help="folder with the data, in place of data_dir in params.json")
    parser.add_argument("--restore_file", help="checkpoint whose weights to start from: a path, or a name in model_dir")
    parser.add_argument("--fresh", action="store_true", help="start over; what was there moves into .old")
    parser.add_argument("--from", dest="source", metavar="FOLDER", help="make model_dir from the params of another")
    parser.add_argument("--set", dest="settings", metavar="KEY=VALUE", action="append", default=[], help="with --from")
    return parser.parse_args(arguments)


def read_params(options: argparse.Namespace) -> tuple[Experiment, Params, Values | None]:
    """The experiment, its checked hyperparameters and, if they come from another one, what its params.json is to be."""
    experiment = Experiment(options.model_dir)
    derived = experiment.derived_values(options.source, options.settings)
    params = experiment.params(options.data_dir, options.restore_file, derived, options.fresh)
    if params.init_from and not experiment.is_begun:
        experiment.checkpoint(params.init_from)
    return experiment, params, derived


if __name__ == "__main__":  # wrong arguments and params end here, before the seconds that importing torch takes
    run(lambda: read_params(parse_arguments()))

import logging
from pathlib import Path

from torch import nn
from torch.optim import Optimizer

from engine.data import Feed, SamePass
from engine.experiment import StopRequest
from engine.randomness import seed_everything, use_deterministic_operations
from engine.training import (
    Device,
    Gradients,
    Hook,
    Schedule,
    Scores,
    State,
    Task,
    Watch,
    average_of,
    clip_gradients,
    device_for,
    drop_previous,
    fetch_batches,
    last_checkpoint,
    learned_values,
    load_task,
    load_weights,
    make_optimizer,
    make_schedule,
    own_optimizer,
    own_schedule,
    progress_bar,
    read_checkpoint,
    set_logger,
    set_training_mode,
    torch_errors_explained,
)
from evaluate import evaluate, forward


def train(state: State, feed: Feed, task: Task, params: Params, device: Device, watch: Watch) -> None:
    """Train for one epoch, or what is left of it."""
    model, optimizer, scores = state.model, state.optimizer, state.scores
    gradients = Gradients(model, params.accumulate)
    set_training_mode(model)
    done = scores.batches  # of this epoch: not 0 where it was interrupted
    batches = feed.epoch(state.epoch, start=done)
    with progress_bar(batches, f"epoch {state.epoch + 1}", len(feed), done, params.batch_size) as bar:
        for step in gradients.steps(bar):  # a step has one batch; with `accumulate`, it has so many
            optimizer.zero_grad()
            for batch in step:
                batch = device.move(batch)
                with device.autocast():
                    losses, outputs, labels = forward(task, model, batch, params, feed.examples)
                gradients.share(losses).backward()  # from "loss", the one of them to minimise
                scores.add(losses, outputs, labels, feed.examples)  # waits every `save_summary_steps` batches
            gradients.average()  # where a step has several batches
            clip_gradients(model, params.grad_clip)
            optimizer.step()
            state.schedule.after_step()  # the learning rate of the next step
            state.update_average()  # the weights that are evaluated, with `ema_decay`
            state.step += 1
            watch.after_step()
            bar.set_postfix_str(f"loss {scores.loss:.3f}", refresh=False)


def train_and_evaluate(
    state: State,
    feed: Feed,
    val_batches: Any,
    task: Task,
    params: Params,
    device: Device,
    watch: Watch,
) -> None:
    """Train and evaluate, epoch by epoch, from wherever `state` is; keep the last checkpoint and the best one."""
    while state.is_to_go_on(params.num_epochs, params.patience):
        logging.info(f"Epoch {state.epoch + 1}/{params.num_epochs}")
        train(state, feed, task, params, device, watch)
        train_scores = watch.training_scores()
        with watch.validation():
            val_scores = evaluate(state.scored_model, val_batches, task, params, device)
        if state.epoch == 0:
            watch.board.add_images(feed.first_batch)
        watch.finish_epoch(train_scores, val_scores)


def make_state(task: Task, params: Params, device: Device, steps_per_epoch: int, weights: Path | None) -> State:
    """The network and all that training changes with it, before the first step; `weights` is where to start from."""
    seed_everything(params.seed)  # the first weights follow from the seed alone, not from what the loaders drew
    model = device.place(task.Net(params))
    if weights is not None:
        load_weights(model, read_checkpoint(weights)["state_dict"], weights)
    averaged = average_of(model, params.ema_decay)  # a copy: after the weights are there, before they are compiled
    if params.compile:
        model.compile()  # in place, so that the names in a checkpoint stay what they are
    optimizer = choose_optimizer(task, model, params)
    schedule = choose_schedule(task, optimizer, params, steps_per_epoch)
    scores = Scores(task.metrics(params), every=params.save_summary_steps)
    return State(model, optimizer, schedule, averaged, scores, learned=learned_values(params))


def choose_optimizer(task: Task, model: nn.Module, params: Params) -> Optimizer:
    """The task's own optimizer, or the one that params.json names."""
    if task.configure_optimizer is not None:
        return own_optimizer(task.configure_optimizer, model, params)
    arguments = {name: getattr(params, name) for name in ("betas", "weight_decay", "momentum")}
    return make_optimizer(params.optimizer, model, params.learning_rate, **arguments)


def choose_schedule(task: Task, optimizer: Optimizer, params: Params, steps_per_epoch: int) -> Schedule:
    """The task's own learning-rate schedule, or the one that params.json names."""
    total_steps = params.num_epochs * steps_per_epoch
    if task.configure_scheduler is not None:
        return own_schedule(task.configure_scheduler, optimizer, params, total_steps)
    warmup_steps = round(params.warmup_epochs * steps_per_epoch)
    return make_schedule(params.schedule, optimizer, warmup_steps, total_steps)


def main(arguments: Sequence[str] | None = None, on_epoch: Hook | None = None) -> None:
    """Train the experiment that the arguments name, or go on with it; `on_epoch` is told each epoch and its scores."""
    options = parse_arguments(arguments)
    experiment, params, derived = read_params(options)
    if experiment.is_finished and not options.fresh:
        experiment.check_unchanged(params)
    else:
        explained = torch_errors_explained(params.batch_size)
        with experiment.derived(derived), experiment.status.held(), StopRequest() as stop, explained:
            experiment.prepare(params, options.fresh)
            run_experiment(experiment, params, stop, on_epoch)
    drop_previous(experiment.folder)
    print(experiment.farewell())


def run_experiment(experiment: Experiment, params: Params, stop: StopRequest, on_epoch: Hook | None) -> None:
    """Put together what training needs, go back to the last checkpoint if there is one, and train."""
    set_logger(experiment.file("train.log"))
    device = device_for(params)
    if params.deterministic:
        use_deterministic_operations()
    logging.info(f"Training {experiment.folder} on {device}")

    task = load_task(params.task, params)
    seed_everything(params.seed)
    loaders = fetch_batches(task, ["train", "val"], params, device)
    batches_per_epoch = params.steps_per_epoch and params.steps_per_epoch * params.accumulate
    feed = Feed(loaders["train"], params.seed, params.max_train_batches, batches_per_epoch)
    val_batches = SamePass(loaders["val"], params.seed, "val")
    steps_per_epoch = -(-len(feed) // params.accumulate)  # the last one may be of fewer batches
    weights = experiment.checkpoint(params.init_from) if params.init_from and not experiment.is_begun else None
    state = make_state(task, params, device, steps_per_epoch, weights)
    if experiment.is_begun:
        path, checkpoint = last_checkpoint(experiment.folder)
        state.restore(checkpoint, path)
        experiment.cut_history(state.epoch)
        logging.info(f"Going on after epoch {state.epoch}, batch {state.scores.batches}")

    with Watch(experiment, state, params, str(device), stop, on_epoch) as watch:
        train_and_evaluate(state, feed, val_batches, task, params, device, watch)


if __name__ == "__main__":
    run(main)
