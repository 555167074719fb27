"""The task package of an experiment: found by its name, and checked for what the scripts need of it."""

import functools
import importlib
import inspect
import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from engine.data import TensorBatches, fetch_iterators
from engine.errors import UserError, did_you_mean, nearest
from engine.hyperparameters import Params, Values
from engine.training.device import Device

VALIDATION = ("val", "dev", "valid", "validation")  # one split, as different people call it
OPTIONAL = ("metrics", "step", "configure_optimizer", "configure_scheduler", "predict", "report")
PLAIN_TYPES = (str, int, float, bool, type(None))


_withheld: ContextVar[frozenset[str]] = ContextVar("withheld", default=frozenset())


@contextmanager
def withheld(split: str) -> Iterator[None]:
    """Within this block, to ask any task for the batches of `split` is an error: a search never sees the test data."""
    token = _withheld.set(_withheld.get() | {split})
    try:
        yield
    finally:
        _withheld.reset(token)


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


def load_task(name: str, params: Params) -> Task:
    """The task package `name`, such as `model` or `examples.ner`, with `params` given to what takes them.

    Raises `UserError` if there is no such package, or if it lacks one of the names that every task has.
    """
    net, loading = _import(name, "net"), _import(name, "data_loader")
    _warn_of_near_names(net)
    step = getattr(net, "step", None)
    loss_fn = step or _required(net, "loss_fn", "the mean loss of a batch (outputs, labels); or a function step")
    if step is None and "params" in inspect.signature(loss_fn).parameters:
        loss_fn = functools.partial(loss_fn, params=params)
    metrics = getattr(net, "metrics", {})
    return Task(
        name=name,
        Net=_required(net, "Net", "the network, a torch.nn.Module made from params"),
        fetch_dataloader=_fetching(loading),
        metrics=metrics if callable(metrics) else lambda _: metrics,
        loss_fn=loss_fn,
        step=step and _giving_three(step),
        **{hook: getattr(net, hook, None) for hook in ("configure_optimizer", "configure_scheduler")},
        **{hook: getattr(net, hook, None) for hook in ("predict", "report")},
    )


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
            form = f"a {type(result).__name__}" + (f" of {len(result)}" if isinstance(result, tuple | list) else "")
            raise UserError(f"net.py: step is to return (loss, outputs, labels), and it returned {form}")
        return result

    return run


def _fetching(loading: ModuleType) -> Callable[..., Any]:
    """The `fetch_dataloader` of a module, or one over a class of the kind that the course's text example has."""
    kind: Any = getattr(loading, "DataLoader", None)
    if hasattr(kind, "load_data") and hasattr(kind, "data_iterator"):
        return functools.partial(fetch_iterators, kind)
    return _required(loading, "fetch_dataloader", "a function (types, data_dir, params)")


def fetch_batches(task: Task, splits: list[str], params: Params, device: Device) -> dict[str, Any]:
    """The batches of each of `splits`, resident ones on the device. Raises `UserError` if a split has none."""
    if hidden := _withheld.get().intersection(splits):
        raise UserError(f"a search must not look at {min(hidden)}: choose by val, and evaluate the chosen one on test")
    try:
        loaders = task.fetch_dataloader(splits, params.data_dir, params)
    except FileNotFoundError:
        if Path(params.data_dir).exists():
            raise
        raise UserError(f"{params.data_dir}: no such data folder; name yours with --data_dir") from None
    if not isinstance(loaders, dict):
        form = type(loaders).__name__
        raise UserError(f"{task.name}/data_loader.py: fetch_dataloader returns a {form}, not a dict {{split: batches}}")
    if missing := [split for split in splits if split not in loaders]:
        loaders |= _by_other_names(task, missing, params)
    for split in splits:
        if split not in loaders:
            raise UserError(f'{params.data_dir}: fetch_dataloader has no "{split}"; it gave {", ".join(loaders)}')
        if isinstance(loaders[split], TensorBatches):
            loaders[split].to(device.device)
    return loaders


def _by_other_names(task: Task, splits: list[str], params: Params) -> dict[str, Any]:
    """The batches of those `splits` that the loader knows under another of their usual names."""
    found = {}
    for split, name in itertools.product(set(splits) & set(VALIDATION), VALIDATION):
        loaders = task.fetch_dataloader([name], params.data_dir, params)
        if name in loaders:
            found[split] = loaders[name]
    return found


def learned_values(params: Params) -> Values:
    """What the loaders set on `params`, as plain JSON values; what cannot be one is left out with a warning."""
    learned: Values = {}
    for name, value in params.learned().items():
        try:
            learned[name] = _plain(value)
        except TypeError:
            logging.warning(f"params.{name} is set by the loader to a {type(value).__name__}: not kept in data.json")
    return learned


def _plain(value: Any) -> Any:
    if isinstance(value, PLAIN_TYPES):
        return value
    if isinstance(value, np.generic | np.ndarray) or hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    raise TypeError(type(value).__name__)


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
