"""Train a network: one experiment, one folder.

    python train.py --model_dir experiments/base
    python train.py --model_dir experiments/mine --data_dir data/my_images
    python train.py --model_dir experiments/wide --from experiments/base --set num_channels=64
    python train.py --model_dir experiments/base --check
    python train.py --replay experiments/base

    torchrun --nproc_per_node 4 train.py --model_dir experiments/base

Run it again on the same folder, and it goes on where it was.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from engine.errors import run
from engine.experiment import LOG, Plan, Replay, farewell, plan_replay, plan_training
from engine.hosting import hosted
from engine.hyperparameters import Params, Values
from engine.launcher import attempt, is_first, process_count, refuse_several


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `arguments` stand in for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_dir", help="folder of the experiment, with params.json; if absent experiments/base")
    parser.add_argument("--data_dir", help="folder with the data, in place of data_dir in params.json")
    parser.add_argument("--restore_file", help="checkpoint whose weights to start from: a path, or a name in model_dir")
    parser.add_argument("--fresh", action="store_true", help="start over; what was there moves into .old")
    parser.add_argument("--from", dest="source", metavar="FOLDER", help="make model_dir from the params of another")
    parser.add_argument("--set", dest="settings", metavar="KEY=VALUE", action="append", default=[], help="with --from")
    parser.add_argument("--replay", metavar="FOLDER", help="train a finished run again; tells whether it is the same")
    parser.add_argument("--check", action="store_true", help="look for faults of the task, and train nothing")
    options = parser.parse_args(arguments)
    if options.replay and (
        options.restore_file or options.fresh or options.source or options.settings or options.check
    ):
        parser.error("--replay takes all from the record: only --model_dir and --data_dir go with it")
    return options


def decide(arguments: Sequence[str] | None = None) -> Plan | Replay:
    """What there is to do, by the command line: begin, go on, or nothing, as it is finished; or all of it again."""
    options = parse_arguments(arguments)
    if options.check:
        refuse_several("--check")
    if options.replay:
        refuse_several("--replay")
        return plan_replay(options.replay, options.model_dir, options.data_dir)
    fresh = options.fresh and attempt() == 0  # what torchrun starts again is to go on
    start = (options.data_dir, options.restore_file, fresh, options.source, options.settings)
    return plan_training(options.model_dir or "experiments/base", *start, only_checks=options.check)


if __name__ == "__main__":  # what needs no torch ends here, before the seconds that importing it takes
    decided: Any = run(decide) if is_first() else None  # the first of several tells the others
    if process_count() == 1 and isinstance(decided, Plan) and decided.is_finished:
        run(lambda: print(farewell(decided)))
        sys.exit()

import contextlib
import logging
import math
from pathlib import Path

from torch import nn
from torch.optim import Optimizer

from engine import training
from engine.data import Feed, SamePass, part_of
from engine.experiment import StopRequest, held
from engine.randomness import use_deterministic_operations
from engine.training import Device, Gradients, Hook, Processes, Schedule, Scores, State, Task, Watch
from evaluate import evaluate, forward


def train(
    state: State, feed: Feed, task: Task, params: Params, device: Device, watch: Watch, processes: Processes
) -> None:
    """Train for one epoch, or what is left of it."""
    model, optimizer, scores = state.model, state.optimizer, state.scores
    gradients = Gradients(model, params.accumulate, processes)
    training.set_training_mode(model)
    batches = feed.epoch(state.epoch, start=scores.batches)  # of which some are done, where it was interrupted
    bar = training.progress_bar(f"epoch {state.epoch + 1}/{params.num_epochs}", feed.count, scores.examples)
    with bar, training.batch_errors_explained(scores, feed):
        # Of one batch, with `accumulate` of so many; a process without rows of it may have to go forward with none
        for step in gradients.steps(batches, lambda batch: forward(task, model, device.move(batch), params)):
            optimizer.zero_grad()
            for batch in scores.present(step):  # all, but where there are more processes than rows
                batch = device.move(batch)
                with device.autocast():
                    losses, outputs, labels = forward(task, model, batch, params, feed.examples)
                loss = gradients.share(losses)  # "loss", the one of them to minimise
                state.loss_scale.scale(loss).backward()  # as it is, but in float16
                scores.add(losses, outputs, labels, feed.examples)  # scored later, together with its neighbours
            gradients.average(scores.not_finite_at)  # over all batches of the step, and all processes
            state.loss_scale.unscale(optimizer)
            training.clip_gradients(model, params.grad_clip)
            taken = state.loss_scale.step(optimizer)  # each is, but in float16 where gradients overflow
            state.schedule.after_step(taken)  # the learning rate of the next step
            state.update_average(taken)  # the weights that are evaluated, with `ema_decay`
            state.step += taken
            watch.after_step()
            watch.show(bar, feed)


def train_and_evaluate(
    state: State,
    feed: Feed,
    val_batches: Any,
    task: Task,
    params: Params,
    device: Device,
    watch: Watch,
    processes: Processes,
) -> None:
    """Train and evaluate, epoch by epoch, from wherever `state` is; keep the last checkpoint and the best one."""
    while state.is_to_go_on(params.num_epochs, params.patience):
        logging.info(f"Epoch {state.epoch + 1}/{params.num_epochs}")
        train(state, feed, task, params, device, watch, processes)
        train_scores = watch.training_scores()
        with watch.validation():
            val_scores = evaluate(state.scored_model, val_batches, task, params, device, processes)
        if state.epoch == 0 and processes.is_first:
            watch.board.add_images(feed.first_batch)
        watch.finish_epoch(train_scores, val_scores)


def make_state(
    task: Task, params: Params, device: Device, batches_per_epoch: int, weights: Path | None, processes: Processes
) -> State:
    """The network and all that training changes with it, before the first step; `weights` is where to start from."""
    model = device.place(task.Net(params))  # built under the seed alone, whatever the loaders drew
    if weights is not None and processes.is_first:
        training.load_weights(model, training.read_checkpoint(weights)["state_dict"], weights)
    model = training.replicated(model, params.sync_batchnorm, processes)  # the first one's weights for all
    averaged = training.average_of(model, params.ema_decay)  # a copy: of the weights to start from, not yet compiled
    if params.compile:
        model.compile()  # in place, so that the names in a checkpoint stay what they are
    optimizer = choose_optimizer(task, model, params)
    steps_per_epoch = math.ceil(batches_per_epoch / params.accumulate)  # the last one may be of fewer batches
    schedule = choose_schedule(task, optimizer, params, steps_per_epoch)
    every = training.sampling(params.save_summary_steps, batches_per_epoch)
    scores = Scores(task.metrics(params), every, processes)
    learned = training.learned_values(params)
    return State(model, optimizer, schedule, averaged, scores, device.loss_scale(), learned=learned)


def choose_optimizer(task: Task, model: nn.Module, params: Params) -> Optimizer:
    """The task's own optimizer, or the one that params.json names."""
    if task.configure_optimizer is not None:
        return training.own_optimizer(task.configure_optimizer, model, params)
    arguments = {name: getattr(params, name) for name in ("betas", "weight_decay", "momentum")}
    return training.make_optimizer(params.optimizer, model, params.learning_rate, **arguments)


def choose_schedule(task: Task, optimizer: Optimizer, params: Params, steps_per_epoch: int) -> Schedule:
    """The task's own learning-rate schedule, or the one that params.json names."""
    total_steps = params.num_epochs * steps_per_epoch
    if task.configure_scheduler is not None:
        return training.own_schedule(task.configure_scheduler, optimizer, params, total_steps)
    warmup_steps = round(params.warmup_epochs * steps_per_epoch)
    return training.make_schedule(params.schedule, optimizer, warmup_steps, total_steps)


def run_experiment(plan: Plan, stop: StopRequest, on_epoch: Hook | None, processes: Processes) -> None:
    """Put together what training needs, go back to the last checkpoint if there is one, and train."""
    experiment, params = plan.experiment, plan.params
    training.set_logger(experiment.file(LOG))
    device = training.device_for(params)
    if params.deterministic:
        use_deterministic_operations()
    together = f"in {processes.count} processes, each " if processes.count > 1 else ""
    logging.info(f"Training {experiment.folder} {together}on {device}")
    for warning in plan.warnings:
        logging.warning(warning)

    task = training.load_task(params.task, params)
    with processes.first_of_machine_first():  # it decodes, the others find it done
        loaders = training.fetch_batches(task, ["train", "val"], params, device)
    batches_per_epoch = params.steps_per_epoch and params.steps_per_epoch * params.accumulate
    feed = Feed(loaders["train"], params.seed, params.max_train_batches, batches_per_epoch, processes.share)
    val_batches = SamePass(part_of(loaders["val"], params.max_eval_batches), params.seed, "val", processes.share)
    state = make_state(task, params, device, len(feed), plan.weights, processes)
    state.feed = feed  # a loader with a state of its own has it in the checkpoint
    state.learned |= training.split_fingerprints(loaders)
    state.sketches = training.split_sketches(loaders)
    if plan.goes_on:
        path, checkpoint = processes.from_first(lambda: training.last_checkpoint(experiment.folder))
        if processes.is_first:
            experiment.check_own(path, checkpoint.get("run"))
        training.check_examples(checkpoint["learned"], loaders)
        state.restore(checkpoint, path)
        if processes.is_first:
            experiment.cut_history(state.epoch)
        logging.info(f"Going on after epoch {state.epoch}, batch {state.scores.batches}")

    with Watch(plan, state, device, stop, on_epoch, processes) as watch:
        train_and_evaluate(state, feed, val_batches, task, params, device, watch, processes)


def carry_out(decided: Plan | Replay | None, on_epoch: Hook | None = None) -> None:
    """Train as planned, if there is anything to do; `on_epoch` is told each epoch and its validation scores.

    Of several processes the first has decided, and keeps the folder; the others hear of it.
    """
    if isinstance(decided, Replay):
        training.replay(decided)
        return
    if decided is not None and decided.only_checks:
        from engine.check import check_project

        check_project(decided, forward, choose_optimizer)
        return
    with StopRequest() as stop, training.joined(stop) as processes:
        plan = processes.from_first(lambda: decided)
        assert plan is not None
        if not plan.is_finished:
            explained = training.torch_errors_explained(plan.params.batch_size)
            with held(plan) if processes.is_first else contextlib.nullcontext(), processes.ending_together(), explained:
                run_experiment(plan, stop, on_epoch, processes)
    if processes.is_first:
        print(farewell(plan))


def main(arguments: Sequence[str] | None = None, on_epoch: Hook | None = None) -> Values:
    """Train the experiment that the arguments name, or go on with it; returns the validation scores of its best."""
    with hosted("train", arguments):
        decided = decide(arguments) if is_first() else None
        carry_out(decided, on_epoch)
        return {} if decided is None else decided.experiment.best_scores()


if __name__ == "__main__":
    run(lambda: carry_out(decided))
