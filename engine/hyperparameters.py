"""Hyperparameters: the table of those the engine reads, and `Params`, which lets no typo pass. Never imports torch."""

import copy
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import UserError, did_you_mean, nearest
from engine.files import parse_json, read_json


class Key(NamedTuple):
    """One hyperparameter of the engine. A default of None means off, or chosen by what is there."""

    name: str
    kind: type
    default: Any
    meaning: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


Values = dict[str, Any]
KIND_NAMES = {
    str: "text in quotes",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object {...}",
}
LARGEST_COUNT = 10**12  # of anything: beyond it are only slips
SCHEDULES = ("constant", "linear", "cosine", "onecycle", "plateau")
TRACKERS = ("wandb", "mlflow")  # by the names of their packages
PRECISIONS = ("float32", "bfloat16", "float16", "auto")

# fmt: off
KEYS = {key.name: key for key in (
    Key("task", str, "model", "package that holds net.py and data_loader.py, such as examples.ner"),
    Key("data_dir", str, "data/digits", "folder with the data"),
    Key("init_from", str, None, "checkpoint whose weights training starts from: a path, or a name in the experiment"),
    Key("seed", int, 230, "every random draw follows from it", low=0, high=2**63 - 1),
    Key("deterministic", bool, False, "only operations that give the same bits each time; slower on a GPU"),
    Key("threads", int, None, "CPU threads; all cores if absent", low=1, high=1024),
    Key("batch_size", int, 32, "examples per batch", low=1),
    Key("num_epochs", int, 10, "epochs to train", low=1),
    Key("learning_rate", float, 1e-3, "the optimizer's, at the height of the schedule", low=0),
    Key("optimizer", str, "Adam", "any class of torch.optim"),
    Key("betas", list, None, "Adam's two averages, each from 0 up to 1; the optimizer's own if absent"),
    Key("weight_decay", float, None, "the optimizer's own if absent", low=0),
    Key("momentum", float, None, "the optimizer's own if absent", low=0),
    Key("schedule", str, "constant", "course of the learning rate over all steps", choices=SCHEDULES),
    Key("warmup_epochs", float, 0.0, "epochs over which the learning rate rises from 0", low=0),
    Key("grad_clip", float, None, "largest norm that the gradient may have", low=0),
    Key("accumulate", int, 1, "batches per step, which counts like one batch so many times as large", low=1),
    Key("ema_decay", float, None, "evaluate a running average of the weights; its decay per step", low=0, high=0.99999),
    Key("precision", str, "float32", "auto is what the hardware is fast in; float16 scales losses", choices=PRECISIONS),
    Key("sync_batchnorm", bool, True, "batch norm over the whole batch where several GPUs share it; not on CPUs"),
    Key("channels_last", bool, False, "memory layout that convolutions prefer"),
    Key("compile", bool, False, "torch.compile: minutes at the start, faster steps on a GPU"),
    Key("device", str, "auto", "auto, cpu, cuda, cuda:1, mps; auto takes a GPU where there is one"),
    Key("num_workers", int, 0, "processes that load data, for loaders that use them", low=0),
    Key("steps_per_epoch", int, None, "steps per epoch; a pass over the data if absent", low=1),
    Key("save_steps", int, None, "steps between checkpoints within an epoch", low=1),
    Key("save_summary_steps", int, None, "batches for each that train metrics are sampled from; all if absent", low=1),
    Key("tracker", str, None, "where the run is shown, too; of requirements-trackers.txt", choices=TRACKERS),
    Key("monitor", str, None, "what the best epoch is best in; accuracy if there is such a metric, else loss"),
    Key("mode", str, None, "whether monitor is better high or low", choices=("max", "min")),
    Key("patience", int, None, "epochs without a new best after which training stops", low=1),
    Key("max_train_batches", int, None, "take only so many, the same ones each epoch", low=1),
    Key("max_eval_batches", int, None, "validate on only so many, drawn from all over the split", low=1),
)}
# fmt: on
DEFAULTS: Values = {key.name: key.default for key in KEYS.values()}

HOW_IT_RUNS = {"device", "num_workers", "save_summary_steps", "save_steps", "tracker"}  # and not what comes out of it
HOW_A_TRIAL_RUNS = HOW_IT_RUNS | {"threads"}  # a search deals the processors out
MAY_CHANGE = HOW_IT_RUNS | {"data_dir", "init_from"}  # when a run goes on: the data themselves are compared
AS_IT_IS_NOW = {"task", "batch_size", "device", "num_workers", "threads"}  # in evaluation: the code may have moved


class MissingKey(UserError, AttributeError):
    """A hyperparameter that code asks for and the file lacks; also an AttributeError, so that `getattr` can default.

    What it says is put together when somebody reads it: code that defaults asks in every batch.
    """

    def __init__(self, source: str, key: str, there: Iterable[str]) -> None:
        super().__init__(source, key, there)
        self.source, self.key, self.there = source, key, there

    def __str__(self) -> str:
        hint = did_you_mean(self.key, (key for key in self.there if key not in KEYS))
        return f'{self.source}: "{self.key}" is asked for and not there{hint}'


class Params:
    """Hyperparameters from a JSON file, as attributes; those of a `params.json` over the defaults of the table.

    >>> params = Params("experiments/base/params.json")
    >>> params.learning_rate
    0.001
    >>> params.num_classes = 10  # what a loader learns from the data is set here
    """

    __slots__ = ("_asked", "_defaults", "_learned", "_owned", "_source", "_typed", "_values", "withheld")

    def __init__(self, json_path: str | Path, values: Values | None = None) -> None:
        self._source = str(json_path)
        self._typed: Values = read_json(json_path) if values is None else dict(values)  # the user's own words
        self._learned: Values = {}  # what the task has set
        self._values: Values = copy.deepcopy(
            self._typed
        )  # what code reads: over these words what was learned, provided
        self._defaults: Values = DEFAULTS if Path(json_path).name == "params.json" else {}
        self._owned: set[str] = set()  # what the task cannot set
        self._asked: set[str] = set()
        self.withhold()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        self._asked.add(name)
        if name in self._values:
            return self._values[name]
        if name in self._defaults:
            return self._defaults[name]
        raise MissingKey(self._source, name, self._values)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self.learn({name: value})

    def __getstate__(self) -> Values:
        return {name: getattr(self, name) for name in self.__slots__}

    def __setstate__(self, state: Values) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)

    def option(self, key: Key) -> Any:
        """The value of a task's own key, checked, or its default where the file leaves it out.

        >>> params.option(Key("num_channels", int, 32, "channels of the first stage", low=1))
        32
        """
        return checked(key, getattr(self, key.name, key.default), self._source)

    @property
    def dict(self) -> Values:
        """All values, as a dict to read and write."""
        self._asked.update(self._values)
        return _Written(self)

    __dict__ = dict  # `params.__dict__` and `vars(params)` served projects of 2018 for the same

    def save(self, json_path: str | Path) -> None:
        """Write the values to a JSON file."""
        text = json.dumps({**self._typed, **self._learned}, indent=4)
        Path(json_path).write_text(text + "\n", encoding="utf-8")

    def update(self, json_path: str | Path) -> None:
        """Take the values of another JSON file as well, such as the sizes that a data set was built with."""
        self.learn(read_json(json_path))

    def learn(self, values: Values) -> None:
        """Set what the task learned from its data, now or in an earlier run; it counts for more than what was typed.

        Raises `UserError` for what is the engine's: a task that reads another value than is in effect does other things
        than the records say.
        """
        for name, value in values.items():
            in_effect = self._values.get(name, self._defaults.get(name))
            if name in self._owned and not _same(value, in_effect):
                raise UserError(
                    f"{self._source}: the task sets params.{name} to {value}, where {in_effect} is in effect; this key "
                    "is the engine's: write it into params.json, or give the task's own value another name"
                )
        self._learned.update(values)
        self._values.update(values)

    def provide(self, **values: Any) -> None:
        """Set what is in effect and neither typed nor learned, such as the device that `auto` means here, or `cuda`."""
        self._values.update(values)
        self._owned.update(values)

    def withhold(self, *splits: str) -> None:
        """Make it an error to ask for the batches of these splits: a search never sees the test data."""
        object.__setattr__(self, "withheld", frozenset(splits))

    def learned(self) -> Values:
        """What the task has set, but for what the engine has anyway."""
        return {name: self._learned[name] for name in sorted(self._learned.keys() - self._owned)}

    def overruled(self) -> Values:
        """What was learned in place of another value that was typed."""
        typed = {name: value for name, value in self._typed.items() if value is not None}
        return {
            name: value for name, value in self.learned().items() if name in typed and not _same(value, typed[name])
        }

    def effective(self) -> Values:
        """Every value that counts as it was typed, defaults included, without comments and without what was learned."""
        return {key: value for key, value in {**self._defaults, **self._typed}.items() if not key.startswith("_")}

    def unread(self) -> list[str]:
        """The keys of the file that no code has asked for yet, nor set."""
        read = self._asked | self._learned.keys() | {"init_from"}  # this one by the plan of the run
        return sorted(key for key in self._typed.keys() - read if not key.startswith("_"))

    def check_unread(self) -> None:
        """Refuse a key that nobody has read and that resembles one that is lacking, be it asked for or the table's."""
        lacking = (self._asked | set(KEYS)) - set(self._values)
        for key in sorted(set(self.unread()) - set(KEYS)):
            if guess := nearest(key, lacking, likeness=0.8):
                raise UserError(f'{self._source}: "{key}" is read by nothing; did you mean "{guess}"?')


class _Written(dict[str, Any]):
    """The values of `params.dict`: what is written into it is set on the params too."""

    def __init__(self, params: Params) -> None:
        super().__init__(params._values)
        self.params = params

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self.params.learn({name: value})

    def update(self, *others: Any, **values: Any) -> None:
        """Set several."""
        for name, value in dict(*others, **values).items():
            self[name] = value


def _same(one: Any, other: Any) -> bool:
    """Whether two values say the same, be it as a list, a tuple or an array."""
    one, other = (value.tolist() if hasattr(value, "tolist") else value for value in (one, other))
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, bool) is not isinstance(other, bool):
        return False
    try:
        return bool(one == other)
    except (TypeError, ValueError, RuntimeError):  # of objects that have no plain answer
        return False


def load_params(json_path: str | Path, values: Values | None = None) -> Params:
    """The checked hyperparameters of an experiment, with the defaults of the table for what the file leaves out.

    `values` stand in for the content of a file that is yet to be written.
    """
    typed = read_json(json_path) if values is None else values
    for name in typed:
        if hasattr(Params, name) and not name.startswith("_"):
            raise UserError(f'{json_path}: "{name}" is a method of Params; give this hyperparameter another name')
    known = {name: checked(KEYS[name], value, json_path) for name, value in typed.items() if name in KEYS}
    params = Params(json_path, {**typed, **known})
    params._defaults = DEFAULTS
    params._owned.update(KEYS)
    return params


def checked(key: Key, value: Any, source: str | Path) -> Any:
    """The value, if the table allows it for `key`; an integer is welcome where a float is meant, and 1e3 as a 1000."""
    if value is None and key.default is None:
        return None
    if key.kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if key.kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    kind: Any = key.kind
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(
            f'{source}: "{key.name}" must be {KIND_NAMES[key.kind]}, not {json.dumps(value)}{_way_out(key, value)}'
        )
    if key.choices and value not in key.choices:
        hint = did_you_mean(str(value), key.choices)
        raise UserError(f'{source}: "{key.name}" must be one of {", ".join(key.choices)}, not "{value}"{hint}')
    high = LARGEST_COUNT if key.high is None and kind is int else key.high
    if key.low is not None and value < key.low:
        raise UserError(f'{source}: "{key.name}" must be at least {key.low:g}, not {value}')
    if high is not None and value > high:
        raise UserError(f'{source}: "{key.name}" must be at most {high:g}, not {value}')
    if key.name == "task" and not all(part.isidentifier() for part in value.split(".")):
        raise UserError(f'{source}: "task" must be the dotted name of a package, such as examples.ner, not "{value}"')
    if key.name == "grad_clip" and value == 0:
        raise UserError(f'{source}: "grad_clip": 0 leaves nothing of any gradient; null, or no such key, clips nothing')
    if key.name == "betas" and not (len(value) == 2 and all(_is_share(beta) for beta in value)):
        raise UserError(f'{source}: "betas" must be two numbers from 0 up to 1, not {json.dumps(value)}')
    return value


def _way_out(key: Key, value: Any) -> str:
    """What to do about a value of another kind: it may be meant for a search, or the task mean another thing by it."""
    if isinstance(value, list):
        return "; several values to try belong into a search.json"
    if KEYS.get(key.name) is not key:
        return ""
    return f" ({key.meaning}); if your task means another thing, give its key another name, here and in the task"


def parse_setting(text: str) -> tuple[str, Any]:
    """The key and value of `--set key=value`: the value is JSON where it can be, else text.

    >>> parse_setting("learning_rate=1e-2")
    ('learning_rate', 0.01)
    """
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise UserError(f'--set {text}: must be key=value, such as "learning_rate=0.01"')
    try:
        return key, parse_json(value)
    except json.JSONDecodeError:
        return key, value
    except ValueError as error:
        raise UserError(f"--set {text}: {error}") from None


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
