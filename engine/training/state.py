"""Everything that training changes, in one object: a checkpoint is exactly its fields."""

import functools
import logging
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from engine.data import Feed
from engine.errors import UserError
from engine.experiment import merit
from engine.training.averaging import Average
from engine.training.checkpoint import Checkpoint, load_weights
from engine.training.loss_scale import LossScale
from engine.training.metrics import Scores
from engine.training.optimization import Schedule
from engine.training.together import load_optimizer

COURSE_NAMES = {"model": "state_dict", "optimizer": "optim_dict"}


@dataclass
class State:
    """What a run is made of at any moment, and how far it is."""

    model: nn.Module
    optimizer: Optimizer
    schedule: Schedule
    averaged: Average | None  # the running average of the weights, where `ema_decay` asks for it
    scores: Scores  # of the epoch under way
    loss_scale: LossScale = field(default_factory=LossScale)
    epoch: int = 0  # finished
    step: int = 0  # taken by the optimizer, over all epochs
    learning_rate: float = 0.0  # with which the epoch under way began
    best_epoch: int = 0
    best_score: float | None = None  # the one that decides
    best_loss: float | None = None
    improved_epoch: int = 0  # the latest with a better score than all before it
    seconds: float = 0.0  # of training and validation, over all times that the run was begun or gone on with
    training_seconds: float = 0.0  # of the epoch under way
    learned: dict[str, Any] = field(default_factory=dict)  # what the task learned from the training data
    sketches: dict[str, Tensor] = field(default_factory=dict)  # some examples of each split, to know them again
    feed: Feed | None = None  # where the training loader is, if it keeps a state
    run: str = field(default_factory=lambda: uuid.uuid4().hex)  # whose checkpoint it is, as run.json says

    def __post_init__(self) -> None:
        self.learning_rate = float(self.optimizer.param_groups[0]["lr"])  # a tensor, where the task made it one

    @property
    def scored_model(self) -> nn.Module:
        """The network whose weights are evaluated: the averaged one, where there is one."""
        return self.model if self.averaged is None else self.averaged.module

    def update_average(self, taken: bool = True) -> None:
        """Let the averaged weights, where there are any, follow those that are trained, if a step was taken."""
        if taken and self.averaged is not None:
            self.averaged.update_parameters(self.model)

    def finish_epoch(self, score: float, loss: float, mode: str) -> bool:
        """Count an epoch with the score that decides, and its loss. Returns whether it is the best so far.

        NaN never is. Of equal scores the one with the lower loss is, and where that is equal too, the later one.
        """
        self.epoch += 1
        self.scores.reset()
        self.training_seconds = 0.0
        merit_now, merit_before = merit(score, loss, mode), merit(self.best_score, self.best_loss, mode)
        is_best = not math.isnan(score) and merit_now >= merit_before
        if is_best:
            if merit_now[0] > merit_before[0]:
                self.improved_epoch = self.epoch
            self.best_epoch, self.best_score, self.best_loss = self.epoch, score, loss
        self.schedule.after_epoch(score, mode)
        self.learning_rate = float(self.optimizer.param_groups[0]["lr"])
        return is_best

    def is_to_go_on(self, num_epochs: int, patience: int | None) -> bool:
        """Whether epochs are left, and the score has not been without a rise for longer than `patience` allows."""
        patient = patience is None or self.epoch - self.improved_epoch < patience
        return self.epoch < num_epochs and patient

    def checkpoint(self) -> Checkpoint:
        """Every field by its name in the file: what has a state of its own as that, plain values as they are.

        `state_dict` holds the weights that were scored; where they are an average, `training_state_dict` the others.
        """
        values = {COURSE_NAMES.get(f.name, f.name): getattr(self, f.name) for f in fields(self)}
        content = {key: value.state_dict() if hasattr(value, "state_dict") else value for key, value in values.items()}
        if self.averaged is not None:
            content["training_state_dict"] = content["state_dict"]
            content["state_dict"] = self.scored_model.state_dict()
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        content["groups"] = [[names.get(id(p)) for p in group["params"]] for group in self.optimizer.param_groups]
        content["frozen"] = [name for name, parameter in self.model.named_parameters() if not parameter.requires_grad]
        return content

    def restore(self, content: Checkpoint, source: Path) -> None:
        """Go back to the moment at which `content`, from the file `source`, was made."""
        load_weights(self.scored_model, content["state_dict"], source)
        if self.averaged is not None:
            load_weights(self.model, content["training_state_dict"], source)
        for name, parameter in self.model.named_parameters():  # some may have been thawed on the way
            parameter.requires_grad_(name not in content["frozen"])
        parameters = dict(self.model.named_parameters())
        for group in content["groups"][len(self.optimizer.param_groups) :]:  # added on the way, too
            self.optimizer.add_param_group({"params": [parameters[name] for name in group if name]})
        for f in fields(self):
            name = COURSE_NAMES.get(f.name, f.name)
            if name not in content:
                logging.warning(f"{source}, of another version of train.py, has no {name}: it begins anew")
                continue
            value, saved = getattr(self, f.name), content[name]
            if isinstance(value, Optimizer):
                _load(functools.partial(load_optimizer, value), saved, f"{source}: {f.name}")
            elif hasattr(value, "load_state_dict"):
                if f.name != "model":
                    _load(value.load_state_dict, saved, f"{source}: {f.name}")
            else:
                setattr(self, f.name, saved)


def _load(load: Callable[[Any], Any], saved: Any, place: str) -> None:
    """Give a part of the state back what a checkpoint kept of it."""
    try:
        load(saved)
    except UserError:
        raise
    except Exception as error:  # of a task's own optimizer, scheduler or metric it can be anything
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{place} does not take back what it gave to the checkpoint ({type(error).__name__}: {reason}); has the "
            "task's code changed? --fresh starts over"
        ) from error
