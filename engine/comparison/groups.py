"""What is compared: each experiment below a folder as a plain record, and those that repeat one another as a group.

Never imports torch.
"""

import gc
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from engine.errors import UserError, did_you_mean
from engine.experiment import (
    Status,
    experiment_folders,
    is_experiment,
    latest_record,
    names_in,
    read_history,
    read_object,
)
from engine.hyperparameters import KEYS, Values

AXES = ("seed", "fold")  # experiments that differ in these alone repeat one another
HOW_IT_RUNS = {"device", "num_workers", "save_summary_steps", "save_steps"}  # and not what comes out of it
NOT_SHARED = HOW_IT_RUNS.union(AXES)
NUMBER = (int, float)
LARGEST = 1e300  # beyond it arithmetic fails
MOST_ABOVE = 5  # levels at which to look for `a/b/seed=* and 1 more`, whose experiments lie in several folders
DEFAULTS = {key.name: key.default for key in KEYS.values()}
WORDS = {
    "max": "accuracy acc f1 precision recall sensitivity specificity auc auroc auprc ap map iou miou jaccard dice "
    "kappa mcc r2 bleu rouge chrf psnr ssim top1 top5 correlation pearson spearman likelihood reward",
    "min": "loss error err mse rmse mae mape nll bce perplexity ppl wer cer fid lpips bpc bpd divergence distance",
}
DIRECTIONS = {word: mode for mode, words in WORDS.items() for word in words.split()}


@dataclass(slots=True)
class Entry:
    """One experiment, as its folder tells it."""

    name: str  # path relative to the parent, posix
    folder: Path
    params: Values  # effective ones of run.json; those of params.json where nothing ran yet or run.json is damaged
    state: str | None  # as `Status.shown`; None where nothing ever ran
    reason: str | None  # why it failed, or was interrupted or pruned
    remark: str  # what in the folder could not be read
    val: Values  # of the best epoch; NaN is None
    test: Values  # of the best checkpoint, where somebody has looked
    best_epoch: int | None
    epochs: int
    seconds: float | None
    examples_per_second: float | None  # in the last epoch
    parameters: int | None
    monitor: str | None
    mode: str | None
    code: str = ""  # fingerprints of the task's files; "" where nothing is recorded
    data: str = ""

    @property
    def has_run(self) -> bool:
        """Whether the folder holds more than a `params.json` that waits for its run."""
        return bool(self.state or self.val or self.epochs or self.remark)

    @property
    def is_finished(self) -> bool:
        """Whether it came to its end, as far as anybody knows: the course's template kept no state."""
        return self.has_run and self.state in ("finished", None)

    @property
    def repetition(self) -> tuple[Any, ...]:
        """Its seed and fold: which repetition of the same experiment it is."""
        return tuple(repr(self.params.get(axis)) for axis in AXES)


@dataclass(slots=True)
class Group:
    """Experiments that differ only in seed or fold; often it is one alone."""

    entries: list[Entry]

    @property
    def name(self) -> str:
        """What the names of its experiments have in common, as a pattern: `learning_rate=0.1,seed=*`."""
        siblings: dict[str, list[str]] = {}
        for entry in self.entries:
            siblings.setdefault(entry.name.rpartition("/")[0], []).append(entry.name)
        most = max(siblings.values(), key=len)
        others = len(self.entries) - len(most)
        return f"{_pattern(most)} and {others} more" if others else _pattern(most)

    @property
    def params(self) -> Values:
        """The hyperparameters that they share."""
        params = self.entries[0].params
        return params if len(self.entries) == 1 else {key: params[key] for key in params if key not in AXES}

    @property
    def data(self) -> str:
        """The fingerprint of the data that those that ran were trained on."""
        return next((entry.data for entry in self.entries if entry.data), "")

    @property
    def counted(self) -> list[Entry]:
        """Those whose scores are averaged: the finished ones, or all where none is."""
        return [entry for entry in self.entries if entry.state == "finished"] or self.entries


def _pattern(names: Sequence[str]) -> str:
    """One name, or what several begin and end with; numbers are not cut in two."""
    if len(names) == 1:
        return names[0]
    start = _common_start(names)
    if any(name[len(start) :][:1].isdigit() for name in names):
        start = start.rstrip("0123456789")
    end = _common_start([name[len(start) :][::-1] for name in names])[::-1].lstrip("0123456789")
    return f"{start}*{end}"


def _common_start(texts: Sequence[str]) -> str:
    first, last = min(texts), max(texts)  # all others lie between them
    end = next((end for end, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    return first[:end]


# Reading


def read_entries(parent: Path) -> list[Entry]:
    """Every experiment at or below `parent`, by name; what was moved into `.old` is left out."""
    with _garbage_left_lying():
        return [_read_entry(parent, name, names) for name, names in experiment_folders(parent).items()]


def read_entry(folder: Path) -> Entry | None:
    """The one experiment in a folder, if there is one."""
    names = names_in(folder)
    return _read_entry(folder, "", names) if is_experiment(names) else None


@contextmanager
def _garbage_left_lying() -> Iterator[None]:
    """What is read is no garbage, and searching it for some, over and over, takes a third of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _read_entry(parent: Path, name: str, names: set[str]) -> Entry:
    """The experiment in the folder `name`, which holds files of these `names`."""
    folder = parent / name
    remarks: list[str] = []

    def read(file: str) -> Values:
        return read_object(f"{folder}/{file}", remarks) if file in names else {}

    run, status = latest_record(read("run.json")), read("status.json")
    params = run.get("params") or _without_comments(read("params.json"))
    monitor, mode = _watched(run, params)
    best: Values = {}
    last: Values = {}
    if "metrics.jsonl" in names:
        best, last = read_history(f"{folder}/metrics.jsonl", f"val_{monitor}", mode, remarks)
    kept = {} if best else read("metrics_val_best_weights.json")  # all that the course's template leaves
    return Entry(
        name=name or parent.resolve().name,
        folder=folder,
        params={**DEFAULTS, **params},
        state=_state(status, folder, remarks),
        reason=" ".join(str(status["reason"]).split()) if status.get("reason") else None,
        val=_scores({key[4:]: best[key] for key in best if key.startswith("val_")} or kept),
        test=_scores(read("metrics_test_best.json")),
        best_epoch=_whole(best.get("epoch")),
        epochs=_whole(last.get("epoch")) or 0,
        seconds=_number(last.get("seconds", status.get("seconds"))),
        examples_per_second=_number(last.get("examples_per_second")),
        parameters=_whole(run.get("parameters")),
        monitor=monitor,
        mode=mode,
        code=_fingerprint(run.get("code", {})),
        data=_fingerprint(run.get("data", {})),
        remark="; ".join(remarks),  # last: by now all is read
    )


def _watched(run: Values, params: Values) -> tuple[str, str | None]:
    """Which score says what is best, and which way: as recorded, else as most runs would have chosen."""
    monitor = str(run.get("monitor") or params.get("monitor") or "accuracy")
    mode = run.get("mode") or params.get("mode")
    return monitor, mode if mode in ("max", "min") else named_direction(monitor)


def _state(status: Values, folder: Path, remarks: list[str]) -> str | None:
    """The state to be shown; only one that says `running` is worth a look at who is."""
    state = status.get("state")
    if state != "running":
        return state if isinstance(state, str) else None
    try:
        return Status(folder).shown()
    except (UserError, OSError, LookupError, TypeError):
        remarks.append("status.json says running; whether it does cannot be told")
        return "running"


def _without_comments(params: Values) -> Values:
    return {key: value for key, value in params.items() if not key.startswith("_")}


def _scores(scores: Values) -> Values:
    """Those that are numbers; None for one that is not finite."""
    return {
        sys.intern(name): _number(value) for name, value in scores.items() if value is None or isinstance(value, NUMBER)
    }


def _number(value: Any) -> float | None:
    return value if isinstance(value, NUMBER) and abs(value) < LARGEST else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and abs(value) < LARGEST else None


def _fingerprint(record: Values) -> str:
    return sys.intern(" ".join(f"{key}:{value}" for key, value in record.items()))


# Comparing


def group_entries(entries: Iterable[Entry]) -> list[Group]:
    """Experiments that differ only in seed or fold, each in one group; those of other code or data never are.

    The same seed twice is no repetition: each stays in a group of its own. One that waits for its run joins those that
    have the same hyperparameters.
    """
    groups: dict[Any, list[Entry]] = {}
    origins: dict[Any, tuple[str, str]] = {}
    turns: Counter[Any] = Counter()
    for entry in sorted(entries, key=lambda entry: not entry.code):
        shared = _shared(entry.params)
        origin = (entry.code, entry.data) if entry.has_run else origins.get(shared, ("", ""))
        origins.setdefault(shared, origin)
        key = (shared, origin, entry.repetition)
        turn = turns[key]
        turns[key] += 1
        groups.setdefault((shared, origin, turn), []).append(entry)
    members = (sorted(group, key=attrgetter("name")) for group in groups.values())
    return sorted((Group(group) for group in members), key=lambda group: group.entries[0].name)


def _shared(params: Values) -> frozenset[Any]:
    """What repetitions have in common, to be looked up by; a key that is absent is as good as None."""
    values = {key: value for key, value in params.items() if key not in NOT_SHARED and value is not None}
    try:
        return frozenset(values.items())
    except TypeError:  # of a list
        return frozenset((key, repr(value)) for key, value in values.items())


def differing(params_list: Sequence[Values]) -> list[str]:
    """The keys in which hyperparameters differ; one that is absent is as good as None."""
    keys = dict.fromkeys(key for params in params_list for key in params)
    return [key for key in keys if any(params.get(key) != params_list[0].get(key) for params in params_list)]


def named_direction(metric: str) -> str | None:
    """Whether a metric is better high (`max`) or low (`min`), as far as the words in its name tell."""
    words = re.split(r"[^a-z0-9]+", metric.lower())
    modes = {DIRECTIONS[word] for word in words if word in DIRECTIONS}
    return modes.pop() if len(modes) == 1 else None


def direction(metric: str, entries: Iterable[Entry]) -> str | None:
    """Whether a metric is better high or low: what runs that watch it say, else its name; None if nobody knows."""
    modes = {entry.mode for entry in entries if entry.monitor == metric and entry.mode}
    return modes.pop() if len(modes) == 1 else named_direction(metric)


def choose_entries(path: Path) -> list[Entry]:
    """The experiments at or below a folder, or in the rows that have this name in the table of a folder above."""
    if os.path.isdir(path):
        return read_entries(path)
    names: set[str] = set()
    above = [folder for folder in path.parents if os.path.isdir(folder)]
    for folder in above[: MOST_ABOVE if path.name.endswith(" more") else 1]:
        rows = [(folder / group.name, group.entries) for group in group_entries(read_entries(folder))]
        chosen = [entry for name, entries in rows if name == path for entry in entries]  # rows may share a name
        if chosen:
            return chosen
        names.update(name.as_posix() for name, _ in rows)
    raise UserError(f"{path}: no such folder, nor a group of experiments{did_you_mean(path.as_posix(), names)}")
