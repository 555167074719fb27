"""Everything that training changes, in one object: a checkpoint is exactly its fields."""

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from engine.experiment import merit
from engine.training.checkpoint import Checkpoint, load_weights
from engine.training.metrics import Scores
from engine.training.optimization import Schedule

COURSE_NAMES = {"model": "state_dict", "optimizer": "optim_dict"}


@dataclass
class State:
    """What a run is made of at any moment, and how far it is."""

    model: nn.Module
    optimizer: Optimizer
    schedule: Schedule
    averaged: AveragedModel | None  # the running average of the weights, where `ema_decay` asks for it
    scores: Scores  # of the epoch under way
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

    def __post_init__(self) -> None:
        self.learning_rate = self.optimizer.param_groups[0]["lr"]

    @property
    def scored_model(self) -> nn.Module:
        """The network whose weights are evaluated: the averaged one, where there is one."""
        return self.model if self.averaged is None else self.averaged.module

    def update_average(self) -> None:
        """Let the averaged weights follow those that are trained, where there are any."""
        if self.averaged is not None:
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
        self.schedule.after_epoch(score)
        self.learning_rate = self.optimizer.param_groups[0]["lr"]
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
            content["averaged"] = {"n_averaged": int(self.averaged.n_averaged)}
        return content

    def restore(self, content: Checkpoint, source: Path) -> None:
        """Go back to the moment at which `content`, from the file `source`, was made."""
        load_weights(self.scored_model, content["state_dict"], source)
        if self.averaged is not None:
            load_weights(self.model, content["training_state_dict"], source)
            self.averaged.n_averaged.fill_(content["averaged"]["n_averaged"])
        for f in fields(self):
            value, saved = getattr(self, f.name), content[COURSE_NAMES.get(f.name, f.name)]
            if f.name in ("model", "averaged"):
                continue
            if hasattr(value, "load_state_dict"):
                value.load_state_dict(saved)
            else:
                setattr(self, f.name, saved)


def average_of(model: nn.Module, decay: float | None) -> AveragedModel | None:
    """A copy of the model that follows its weights and buffers as an exponential moving average; None without decay.

    After n updates the decay is at most (1 + n) / (10 + n), as in TensorFlow: at 0.999, the first weights, which are
    random, would count for thousands of steps.
    """
    if decay is None:
        return None
    averaged = AveragedModel(model, use_buffers=True)

    def update(averages: Any, weights: Any, _: Tensor | int) -> None:
        if not (averages[0].is_floating_point() or averages[0].is_complex()):
            torch._foreach_copy_(averages, weights)  # counters, indices: rounded down, the mean of 5 and 5 may be 4
            return
        updates = int(averaged.n_averaged)  # on the host; what is passed is on the device, which would be waited for
        get_ema_multi_avg_fn(min(decay, (1 + updates) / (10 + updates)))(averages, weights, updates)

    averaged.multi_avg_fn = update
    return averaged
