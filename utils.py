"""The small face that the course taught, and what notebooks ask for: a trained network, curves, results."""

from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from engine import training
from engine.errors import UserError
from engine.experiment import Entry, Experiment, plan_evaluation, read_entries
from engine.files import write_json
from engine.hyperparameters import Params, Values
from engine.randomness import settings_kept
from engine.training import load_weights, read_checkpoint, write_checkpoint

__all__ = [
    "Params",
    "RunningAverage",
    "history",
    "load_checkpoint",
    "load_experiment",
    "results",
    "save_checkpoint",
    "save_dict_to_json",
    "set_logger",
]


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


# For notebooks


def load_experiment(model_dir: str | Path, restore_file: str = "best") -> tuple[nn.Module, Params]:
    """The trained network of an experiment, ready to be called on its device, and its params with what it learned.

    >>> net, params = load_experiment("experiments/base")
    """
    plan = plan_evaluation(model_dir, restore_file=restore_file)
    with settings_kept():
        model, _, _ = training.load_trained(plan)
    return model, plan.params


def history(model_dir: str | Path) -> Any:
    """A row for each epoch of an experiment: a pandas frame, or a list of dicts where there is no pandas.

    >>> history("experiments/base").plot("epoch", ["train_loss", "val_loss"])
    """
    experiment = Experiment(model_dir)
    if not experiment.folder.is_dir():
        raise UserError(f"{model_dir}: no such folder")
    return _frame(experiment.history())


def results(parent_dir: str | Path = "experiments") -> Any:
    """A row for each experiment at or below a folder, with scores and hyperparameters: a frame, or a list as above.

    >>> results("experiments").sort_values("val_accuracy")[["experiment", "learning_rate", "val_accuracy"]]
    """
    if not Path(parent_dir).is_dir():
        raise UserError(f"{parent_dir}: no such folder")
    return _frame([_row(entry) for entry in read_entries(Path(parent_dir))])


def _row(entry: Entry) -> Values:
    """What is known of an experiment; a hyperparameter that is called like one of these facts stays, as `params.`."""
    facts = {
        "experiment": entry.name,
        "state": entry.state,
        **{f"val_{name}": value for name, value in entry.val.items()},
        **{f"test_{name}": value for name, value in entry.test.items()},
        **{name: getattr(entry, name) for name in ("epochs", "best_epoch", "seconds", "parameters")},
    }
    return facts | {f"params.{key}" if key in facts else key: value for key, value in entry.params.items()}


def _frame(rows: list[Values]) -> Any:
    try:
        import pandas
    except ImportError:
        return rows
    return pandas.DataFrame(rows)
