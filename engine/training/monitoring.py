"""What is looked at while a run goes on: which score says what the best epoch is, and whether training is sound."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.optim import Optimizer
from tqdm import tqdm

from engine.data import Feed
from engine.errors import UserError
from engine.experiment import (
    SAMPLED,
    Plan,
    Stopped,
    StopRequest,
    as_listed,
    choose_monitor,
    fingerprint_of,
    list_files,
    outcome_of,
    provenance_of,
)
from engine.hyperparameters import Values
from engine.training.checkpoint import drop_previous, readable, write_checkpoint
from engine.training.device import Device
from engine.training.processes import Processes
from engine.training.state import State
from engine.training.task import in_json
from engine.training.together import try_to_load
from engine.training.trackers import Tracker
from engine.training.tracking import Board, release_log
from engine.training.unsaved import Unsaved
from engine.wording import score_line

PEAK_MEMORY = "peak_memory"  # in a line of metrics.jsonl, in bytes
Hook = Callable[[int, Values], None]  # told each epoch and its validation scores; what it raises ends the training


class Watch:
    """Looks after a run, step by step: nothing is written before the first step has worked, and NaN stops it."""

    def __init__(
        self,
        plan: Plan,
        state: State,
        device: Device,
        stop: StopRequest,
        on_epoch: Hook | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.plan = plan
        self.experiment, self.params = plan.experiment, plan.params
        self.stop = stop
        self.processes = processes or Processes(stop=stop)
        self.state = state
        self.history = self.experiment.history() if plan.goes_on else []
        self.board = Board(self.experiment.file("tensorboard"), self.history)
        self.tracker = Tracker(self.params.tracker, self.experiment.folder)
        self.device = device
        self.on_epoch = on_epoch
        self.monitor, self.mode = "", ""
        self._counted_until = 0.0  # the moment up to which the state's seconds are counted
        optimizers = [value for value in vars(state).values() if isinstance(value, Optimizer)]
        self.unsaved = Unsaved(state.model, optimizers)
        self._told = self._told_of_loss = False

    def __enter__(self) -> "Watch":
        self.device.forget_peak()
        self.stop.between_steps()
        self._counted_until = time.perf_counter()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not self.processes.is_first:
            return
        try:
            if error is None:
                self.board.add_result(self.params.effective(), self.experiment.best_scores())
                drop_previous(self.experiment.folder)
            elif isinstance(error, Stopped):
                logging.info(
                    f"Stopped by {error.reason} at step {self.state.step}; the same command goes on from there"
                )
            else:
                self.check_finite()  # what a metric makes of NaN is not what went wrong
        finally:
            self.board.close()
            self.tracker.end(outcome_of(error), self.experiment.best_scores())

    def after_step(self) -> None:
        """Look after a step: the first begins the run in its folder; then save if it is time to, and stop if asked."""
        state = self.state
        if not self.monitor:
            self.count_time(training=True)
            self._begin()
            self.count_time(training=False)  # of listing the data, above all
        self.check_finite()
        self.processes.check_added_up()
        signal = self.processes.signal
        if signal is not None or (self.params.save_steps and state.step % self.params.save_steps == 0):
            self.count_time(training=True)
            self.save()
        self.processes.check_stop()

    def training_scores(self) -> Values:
        """The scores of a whole epoch of training, if its loss was a finite number throughout."""
        if not self.monitor:  # all of the epoch was trained before an interruption
            self._begin()
        self.count_time(training=True)
        values = self.state.scores.compute()
        self.hear_of_others()
        self.check_finite()
        return values

    def check_finite(self) -> None:
        """Raise if the loss was NaN or infinite in a batch that has been added up, or in float16 all gradients are."""
        what, batch = "the loss is", self.state.scores.not_finite_at
        if self.processes.count > 1:  # all raise it, as soon as all know
            known = self.state.scores.batches - 1 if batch is None else batch
            batch = known if self.processes.not_finite else None
        if batch is None and self.state.loss_scale.is_exhausted:
            what, batch = "the gradients are", self.state.scores.batches - 1
        if batch is not None:
            rate = self.state.optimizer.param_groups[0]["lr"]
            wider = '"precision": "float32", ' if self.device.precision == "float16" else ""
            raise UserError(
                f"{what} no longer a finite number: epoch {self.state.epoch + 1}, batch {batch + 1}, learning rate "
                f'{rate:g}; try {wider}a smaller learning_rate, "grad_clip": 1 or "warmup_epochs": 1, and look for NaN '
                "in the data"
            )

    def hear_of_others(self) -> None:
        """Ask all processes whether a loss was no number, for batches that were scored since their latest step."""
        self.processes.not_finite = self.processes.any(self.state.scores.not_finite_at is not None)

    def count_time(self, training: bool) -> None:
        """Add the time since it was last counted; it is in each checkpoint, so that an interruption loses none."""
        now = time.perf_counter()
        self.state.seconds += now - self._counted_until
        self.state.training_seconds += now - self._counted_until if training else 0.0
        self._counted_until = now

    def seconds_left(self, done: float = 0.0) -> tuple[float, float | None]:
        """How long the run has taken, and how long it may take yet, with so much of the epoch under way `done`."""
        seconds = self.state.seconds + time.perf_counter() - self._counted_until
        share = (self.state.epoch + done) / self.params.num_epochs
        is_over = not self.state.is_to_go_on(self.params.num_epochs, self.params.patience)
        return seconds, None if is_over or share == 0 else seconds * (1 - share) / share

    def show(self, bar: "tqdm[Any]", feed: Feed) -> None:
        """Show in the bar how far the epoch and the run are; where nobody knows how many examples come, as many as so
        many batches had."""
        if bar.disable:
            return
        scores, rate = self.state.scores, float(self.state.optimizer.param_groups[0]["lr"])
        done = min(1.0, scores.batches / len(feed))
        examples = self.processes.examples or scores.examples - bar.n
        bar.total = feed.count or round((bar.n + examples) / done)
        times = "<".join(tqdm.format_interval(seconds or 0) for seconds in self.seconds_left(done))
        bar.set_postfix_str(f"run {times}, loss {scores.loss:.3g}, lr {rate:.3g}", refresh=False)
        bar.update(examples)

    def save(self, is_best: bool = False) -> None:
        """Write the last checkpoint, and the best one if this is it, and say how far the run is."""
        state = self.state
        content = state.checkpoint()
        self.hear_of_others()
        self.check_finite()
        self.unsaved.check_form()
        if not self.processes.is_first:
            return
        self.experiment.check_there()
        write_checkpoint(content, is_best, self.experiment.folder, keep_previous=True)
        self.experiment.status.progress(epoch=state.epoch, step=state.step, seconds=round(state.seconds, 1))

    @contextmanager
    def validation(self) -> Iterator[None]:
        """A signal stops the run at once; the epoch's training is kept, and only its validation done again."""
        try:
            at_once = self.stop.at_once() if self.processes.count == 1 else contextlib.nullcontext()
            with at_once, self.unsaved.validating(self.state.scored_model):
                yield
        except Stopped:
            self.count_time(training=False)
            self.save()
            self.processes.any(False)  # none leaves before the first has saved
            raise
        self.count_time(training=False)

    def finish_epoch(self, train_scores: Values, val_scores: Values) -> None:
        """Count an epoch and keep it: its line first, then the checkpoint, whose epoch says which lines count."""
        if self.processes.is_first:
            self.experiment.check_there()
        row = self._row(train_scores, val_scores)
        if self.monitor not in val_scores:
            choose_monitor(self.monitor, self.mode, val_scores)
        is_best = self.state.finish_epoch(val_scores[self.monitor], val_scores["loss"], self.mode)
        if self.processes.is_first:
            self.experiment.record_epoch(row, val_scores, is_best)
        self.save(is_best)
        if not self.processes.is_first:
            return
        self._log(row, train_scores, val_scores, is_best)
        self.board.add_epoch(row)
        self.tracker.add_epoch(row)
        if not self._told:
            self._tell()
        if not (self._told_of_loss or math.isfinite(val_scores["loss"])):
            self._told_of_loss = True
            logging.warning(
                "val loss is no number: where outputs are NaN, an accuracy takes them for the first class; look for "
                "NaN in the data, and for what the network does otherwise in evaluation"
            )
        for line in self.unsaved.news():
            logging.warning(line)
        if self.on_epoch is not None:
            self.on_epoch(self.state.epoch, val_scores)

    def _log(self, row: Values, train_scores: Values, val_scores: Values, is_best: bool) -> None:
        """Say what came out of an epoch, and when the run will end."""
        sampled = self.state.scores.sampled
        train_scores = {f"sampled {name}" if name in sampled else name: train_scores[name] for name in train_scores}
        logging.info(f"- train: {score_line(train_scores)}")
        logging.info(f"- val:   {score_line(val_scores)}{f'  (best {self.monitor} so far)' if is_best else ''}")
        seconds, left = self.seconds_left()
        about = "about" if self.params.patience is None else "at most"
        to_go = f", {about} {tqdm.format_interval(left)} left" if left is not None else ""
        memory = f", peak memory {row[PEAK_MEMORY] / 2**30:.2f} GiB" if PEAK_MEMORY in row else ""
        logging.info(
            f"- {tqdm.format_interval(seconds)} elapsed{to_go}, learning rate {row['learning_rate']:.3g}{memory}"
        )

    def _row(self, train_scores: Values, val_scores: Values) -> Values:
        """The line in `metrics.jsonl` of the epoch that has just been validated."""
        state = self.state
        examples = sum(self.processes.gather(state.scores.examples))
        return {
            "epoch": state.epoch + 1,
            **{f"train_{name}": value for name, value in train_scores.items()},
            **{f"val_{name}": value for name, value in val_scores.items()},
            "learning_rate": state.learning_rate,
            "seconds": round(state.seconds, 3),
            "examples_per_second": round(examples / state.training_seconds, 1),
            **({PEAK_MEMORY: peak} if (peak := self.device.peak_memory()) is not None else {}),
            **({SAMPLED: [f"train_{name}" for name in sampled]} if (sampled := state.scores.sampled) else {}),
        }

    def _tell(self) -> None:
        """Say what one should know of a run, once, after its first epoch."""
        self._told = True
        if self.state.best_epoch == 0:
            logging.warning(
                f"val {self.monitor} is no number, so that this epoch cannot be the best; where a batch has nothing to "
                'divide by, let the metric return (total, count), or watch another score by "monitor"'
            )
        if sampled := self.state.scores.sampled:
            share = f"1 batch in {self.state.scores.every}"
            logging.info(f"  (train {', '.join(sampled)}: of {share}; without save_summary_steps, of all of them)")
        if unread := self.params.unread():
            logging.warning(f"Nothing has read these keys of params.json: {', '.join(unread)}")

    def _begin(self) -> None:
        """Begin the run in its folder, or go on with it there."""
        self.params.check_unread()
        self.state.scores.settle()
        self.hear_of_others()
        self.check_finite()
        content = readable(self.state.checkpoint())  # what cannot be saved is told now, not after an epoch
        try_to_load(self.state.optimizer, content["optim_dict"])
        self.unsaved.check_form()
        wished = self.params.monitor, self.params.mode
        self.monitor, self.mode = self.processes.from_first(lambda: choose_monitor(*wished, self.state.scores.names))
        self.count_time(training=True)
        if self.processes.is_first:
            self._begin_in_folder()

    def _begin_in_folder(self) -> None:
        """Record where the results come from, in the place of what was there."""
        self.tracker.connect({} if self.plan.is_fresh else self.experiment.latest_record())
        if self.plan.is_fresh:
            self.experiment.set_aside()
        release_log()
        overruled = self.params.overruled()
        for key, value in overruled.items():
            typed = self.params.effective()[key]
            logging.warning(f'params.json says "{key}": {typed}, and the task set it to {value}, which is what counts')
        files = list_files(Path(self.params.data_dir))
        record = self._record(overruled) | {"data": fingerprint_of(files)}
        record |= self.tracker.begin(record, self.history)
        self.experiment.begin(record, in_json(self.state.learned), as_listed(files))
        self.count_time(training=False)  # what all this took is no speed of training

    def _record(self, overruled: Values) -> Values:
        """Where the numbers will come from, for `run.json`."""
        return {
            "run": self.state.run,
            "given": self.plan.given,
            "params": self.params.effective(),
            "overruled": in_json(overruled),
            "device": str(self.device),
            "processes": self.processes.count,
            "monitor": self.monitor,
            "mode": self.mode,
            "parameters": sum(parameter.numel() for parameter in self.state.model.parameters()),
            **provenance_of(self.params.task),
        }
