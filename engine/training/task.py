"""The task package of an experiment: found by its name, and checked for what the scripts need of it."""

import functools
import importlib
import inspect
import itertools
import logging
import math
import random
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from engine.data import TensorBatches, fetch_iterators, shared_examples
from engine.errors import UserError, did_you_mean, form_of, nearest
from engine.hyperparameters import Params, Values
from engine.randomness import seed_everything
from engine.training.checkpoint import other_dicts, readable
from engine.training.device import Device

VALIDATION = ("val", "dev", "valid", "validation")  # one split, as different people call it
OPTIONAL = ("metrics", "step", "configure_optimizer", "configure_scheduler", "predict", "predict_new", "report")
CALLS = {  # what a task's functions are called with
    "Net": ("params",),
    "step": ("model", "batch", "params"),
    "configure_optimizer": ("model", "params"),
    "configure_scheduler": ("optimizer", "params", "total_steps"),
    "predict": ("outputs", "params"),
    "predict_new": ("model", "inputs", "names", "params"),
    "report": ("predictions", "folder"),
    "fetch_dataloader": ("types", "data_dir", "params"),
    "read_input": ("source", "params"),
    "transform_inputs": ("batch", "params"),
}
PLAIN_TYPES = (str, int, float, bool, type(None))
LARGEST_SHOWN = 1000  # numbers of a tensor in data.json


@dataclass(frozen=True)
class Task:
    """What a task package offers. What is None is left to a default; with a `step`, `loss_fn` is not called."""

    name: str
    Net: Callable[[Params], Any]
    fetch_dataloader: Callable[..., Any]
    metrics: Callable[[Params], dict[str, Any]]
    loss_fn: Callable[..., Any]
    step: Callable[..., Any] | None
    configure_optimizer: Callable[..., Any] | None
    configure_scheduler: Callable[..., Any] | None
    predict: Callable[..., Any] | None
    report: Callable[..., Any] | None
    predict_new: Callable[..., Any] | None = None
    read_input: Callable[..., Any] | None = None
    transform_inputs: Callable[..., Any] | None = None


def load_task(name: str, params: Params) -> Task:
    """The task package `name`, such as `model` or `examples.ner`, with `params` given to what takes them.

    All of it is imported, asked for batches and built under the seed of the run, in every script. Raises `UserError` if
    there is no such package, if it lacks one of the names that every task has, or if one of them takes other arguments.
    """
    net, loading = _import_seeded(name, params.seed)
    _warn_of_near_names(net)
    _check_arguments(net)
    metrics = getattr(net, "metrics", {})
    step = getattr(net, "step", None)
    loss_fn = step or _required(net, "loss_fn", "the mean loss of a batch (outputs, labels); or a function step")
    if step is None and takes_params(loss_fn):
        loss_fn = functools.partial(loss_fn, params=params)
    return Task(
        name=name,
        Net=_building(net),
        fetch_dataloader=_fetching(loading),
        metrics=lambda params: _checked_metrics(net, metrics(params) if callable(metrics) else metrics),
        loss_fn=loss_fn,
        step=step and _giving_three(step),
        **{hook: getattr(net, hook, None) for hook in ("configure_optimizer", "configure_scheduler")},
        **{hook: getattr(net, hook, None) for hook in ("predict", "predict_new", "report")},
        **{hook: getattr(loading, hook, None) for hook in ("read_input", "transform_inputs")},
    )


def _import_seeded(task: str, seed: int) -> tuple[ModuleType, ModuleType]:
    """`net.py` and `data_loader.py`, imported under the seed; anew, where they have drawn numbers under another one."""
    if _drawn_under.get(task, seed) != seed:
        import_anew(task)
    before = _generator_states(seed)
    modules = _import(task, "net"), _import(task, "data_loader")
    if _generator_states() != before:
        _drawn_under[task] = seed
    return modules


_drawn_under: dict[str, int] = {}  # the seed of each task that drew random numbers when it was imported


def _generator_states(seed: int | None = None) -> tuple[Any, ...]:
    """The states of the global generators, after seeding them if a seed is given."""
    if seed is not None:
        seed_everything(seed)
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]


def import_anew(task: str) -> None:
    """Have the modules of a task imported again when it is next loaded: what they drew at import follows its seed."""
    for name in [name for name in sys.modules if name == task or name.startswith(f"{task}.")]:
        del sys.modules[name]


def takes_params(function: Callable[..., Any]) -> bool:
    """Whether a function has an argument called `params`."""
    return "params" in inspect.signature(function).parameters


def _building(net: ModuleType) -> Callable[[Params], nn.Module]:
    """The task's `Net`, built under the seed, and held to what it is to be."""
    make = _required(net, "Net", "the network, a torch.nn.Module made from params")

    def build(params: Params) -> nn.Module:
        seed_everything(params.seed)
        model = make(params)
        if not isinstance(model, nn.Module):
            raise UserError(f"{net.__file__}: Net(params) is to give a torch.nn.Module, and it gave {form_of(model)}")
        return model

    return build


def _check_arguments(module: ModuleType) -> None:
    """Raise `UserError` for a function of the contract that cannot be called as it will be."""
    for name, arguments in CALLS.items():
        if hasattr(module, name):
            _check_call(getattr(module, name), arguments, f"{module.__file__}: {name}")


def _check_call(function: Any, arguments: tuple[str, ...], what: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of code that is not Python, or of no function at all
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        raise UserError(f"{what} is called with ({', '.join(arguments)}), and it takes {signature}") from None


def _checked_metrics(net: ModuleType, metrics: Any) -> dict[str, Any]:
    """The metrics by name. Raises `UserError` for anything else, and for functions of other arguments."""
    if not isinstance(metrics, dict):
        raise UserError(f"{net.__file__}: metrics is to be a dict of functions by name, and it is {form_of(metrics)}")
    for name, metric in metrics.items():
        if not hasattr(metric, "update"):
            _check_call(metric, ("outputs", "labels"), f'{net.__file__}: the metric "{name}"')
    return metrics


def _warn_of_near_names(net: ModuleType) -> None:
    """Log a warning for each function or dict whose name is nearly that of an optional hook which is not there."""
    names = {name for name, value in vars(net).items() if inspect.isfunction(value) or isinstance(value, dict)}
    public = {name for name in names - set(OPTIONAL) if not name.startswith("_")}
    for hook in OPTIONAL:
        if not hasattr(net, hook) and (name := nearest(hook, public, likeness=0.85)):
            logging.warning(f'{net.__file__}: "{name}" is read by nothing; did you mean "{hook}"?')


def _giving_three(step: Callable[..., Any]) -> Callable[..., Any]:
    """The task's `step`, held to what it is to return."""

    @functools.wraps(step)
    def run(model: Any, batch: Any, params: Params) -> Any:
        result = step(model, batch, params)
        if not isinstance(result, tuple | list) or len(result) != 3:
            raise UserError(f"net.py: step is to return (loss, outputs, labels), and it returned {form_of(result)}")
        return result

    return run


def _fetching(loading: ModuleType) -> Callable[..., Any]:
    """The `fetch_dataloader` of a module, or one over a class of the kind that the course's text example has."""
    kind: Any = getattr(loading, "DataLoader", None)
    if hasattr(kind, "load_data") and hasattr(kind, "data_iterator"):
        return functools.partial(fetch_iterators, kind)
    fetch = _required(loading, "fetch_dataloader", "a function (types, data_dir, params)")
    _check_arguments(loading)
    return fetch


def fetch_batches(task: Task, splits: list[str], params: Params, device: Device) -> dict[str, Any]:
    """The batches of each of `splits`, resident ones on the device. Raises `UserError` if a split has none."""
    loaders = ask_for(task, splits, params)
    _warn_of_shared_examples({split: loaders[split] for split in splits})
    for split in splits:
        if isinstance(loaders[split], TensorBatches):
            loaders[split].to(device.device)
    return loaders


def ask_for(task: Task, splits: list[str], params: Params) -> dict[str, Any]:
    """The batches of each of `splits` at least, as the loader gives them. Raises `UserError` if a split has none."""
    if hidden := params.withheld.intersection(splits):
        raise UserError(f"a search must not look at {min(hidden)}: choose by val, and evaluate the chosen one on test")
    try:
        loaders = _fetched(task, splits, params)
    except (UserError, NameError, AttributeError, TypeError, ImportError):  # faults of their own
        raise
    except Exception as error:  # a loader can make anything of data that are not there
        place = Path(params.data_dir)
        if place.is_file() or (place.is_dir() and any(place.iterdir())):
            raise
        what = "an empty" if place.is_dir() else "no such"
        said = f"; the task says: {type(error).__name__}: {error}"
        raise UserError(
            f"{params.data_dir}: {what} data folder ({place.absolute()}); name yours with --data_dir{said}"
        ) from None
    if not isinstance(loaders, dict):
        form = form_of(loaders)
        raise UserError(f"{task.name}/data_loader.py: fetch_dataloader returns {form}, not a dict {{split: batches}}")
    if missing := [split for split in splits if split not in loaders]:
        loaders |= _by_other_names(task, missing, params)
    for split in splits:
        if split not in loaders:
            raise UserError(f'{params.data_dir}: fetch_dataloader has no "{split}"; it gave {", ".join(loaders)}')
        if not isinstance(loaders[split], Iterable) and not hasattr(loaders[split], "__getitem__"):
            form = f"the batches of {split} are {form_of(loaders[split])}, which cannot be iterated"
            raise UserError(f"{task.name}/data_loader.py: fetch_dataloader: {form}")
    return loaders


def _warn_of_shared_examples(loaders: dict[str, Any]) -> None:
    """Log a warning for splits of which an example is in both."""
    for one, other in itertools.combinations(loaders, 2):
        if count := shared_examples(loaders[one], loaders[other]):
            logging.warning(f"{count} examples are in {one} and in {other}: scored as if they were new, they are not")


def _fetched(task: Task, splits: list[str], params: Params) -> Any:
    """What the loader gives, asked under the seed of the run each time: a split drawn in it is always the same."""
    seed_everything(params.seed)
    return task.fetch_dataloader(splits, params.data_dir, params)


def _by_other_names(task: Task, splits: list[str], params: Params) -> dict[str, Any]:
    """The batches of those `splits` that the loader knows under another of their usual names."""
    found = {}
    for split, name in itertools.product(set(splits) & set(VALIDATION), VALIDATION):
        loaders = _fetched(task, [name], params)
        if name in loaders:
            found[split] = loaders[name]
    return found


def learned_values(params: Params) -> Values:
    """What the loaders set on `params`, as it is; what a checkpoint cannot hold is left out with a warning."""
    learned: Values = {}
    for name, value in params.learned().items():
        try:
            learned[name] = readable(value, f"params.{name}")
            for kind in set(other_dicts(value)):
                logging.warning(
                    f"params.{name} holds a {kind}, which comes back as a plain dict: evaluate.py has what else it "
                    "knows, such as a default, only where the loader sets it again"
                )
        except UserError:
            logging.warning(
                f"params.{name} is set by the loader to a {type(value).__name__}, which is kept in no checkpoint: "
                "evaluate.py has it only where the loader sets it again"
            )
    return learned


def in_json(value: Any) -> Any:
    """A value that was learned as data.json shows it: lists for tuples, tensors and arrays, but for large ones."""
    if isinstance(value, PLAIN_TYPES):
        return value
    if isinstance(value, dict):
        return {str(key): in_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [in_json(inner) for inner in value]
    is_dense = getattr(value, "layout", torch.strided) == torch.strided
    if hasattr(value, "tolist") and is_dense and math.prod(value.shape) <= LARGEST_SHOWN:
        return in_json(value.tolist())
    return f"{form_of(value)}, in the checkpoints" if hasattr(value, "shape") else str(value)


def _import(task: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(f"{task}.{module}")
    except ModuleNotFoundError as error:
        parts = f"{task}.{module}".split(".")
        if error.name not in {".".join(parts[: end + 1]) for end in range(len(parts))}:
            raise  # something that the task itself imports: the traceback says where
        packages = {".".join(path.parent.parts) for path in Path().glob("**/net.py") if ".venv" not in path.parts}
        hint = did_you_mean(task, packages)
        where = Path(*parts[:-1])
        raise UserError(f'"task": "{task}": {where / module}.py is not there{hint}') from None


def _required(module: ModuleType, name: str, meaning: str) -> Any:
    if not hasattr(module, name):
        raise UserError(f'{module.__file__}: lacks "{name}", {meaning}{did_you_mean(name, vars(module))}')
    return getattr(module, name)
