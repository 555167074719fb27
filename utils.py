"""The small face that the course taught: hyperparameters, a running average, the log, JSON, checkpoints."""

from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from engine import training
from engine.files import write_json
from engine.hyperparameters import Params
from engine.training import load_weights, read_checkpoint, write_checkpoint

__all__ = ["Params", "RunningAverage", "load_checkpoint", "save_checkpoint", "save_dict_to_json", "set_logger"]


class RunningAverage:
    """The mean of the values it was given.

    >>> loss_average = RunningAverage()
    >>> loss_average.update(2)
    >>> loss_average.update(4)
    >>> loss_average()
    3.0
    """

    def __init__(self) -> None:
        self.steps = 0
        self.total = 0.0

    def update(self, value: float) -> None:
        """Take a value in."""
        self.total += value
        self.steps += 1

    def __call__(self) -> float:
        """The mean so far."""
        return self.total / self.steps


def set_logger(log_path: str) -> None:
    """Log to the terminal and to the file `log_path`, through `logging.info` and the like."""
    training.set_logger(log_path)
    training.release_log()


def save_dict_to_json(d: dict[str, Any], json_path: str) -> None:
    """Write numbers by name, NumPy's and PyTorch's among them, to a JSON file."""
    write_json(Path(json_path), {key: float(value) for key, value in d.items()})


def save_checkpoint(state: dict[str, Any], is_best: bool, checkpoint: str) -> None:
    """Write `state` as `last.pth.tar` into the folder `checkpoint`, and as `best.pth.tar` if it is the best so far."""
    Path(checkpoint).mkdir(parents=True, exist_ok=True)
    write_checkpoint(state, is_best, Path(checkpoint))


def load_checkpoint(checkpoint: str, model: nn.Module, optimizer: Optimizer | None = None) -> dict[str, Any]:
    """Put the weights of a checkpoint file into `model`, and into `optimizer` its state; returns all that is there."""
    content = read_checkpoint(Path(checkpoint))
    load_weights(model, content["state_dict"], Path(checkpoint))
    if optimizer is not None:
        optimizer.load_state_dict(content["optim_dict"])
    return content
