"""The columns of a table: what is told of each row, as values to compute with and as texts to read."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engine.comparison.groups import Group
from engine.comparison.ranking import Metric, Verdict, measure, verdicts
from engine.comparison.statistics import CUT, INTERVAL, RANGE, Summary
from engine.comparison.wording import Numbers, amount, param_text, span
from engine.wording import duration

QUANTITIES: list[tuple[str, str, Callable[[float], str], int, str]] = [
    ("time", "seconds", duration, 30, "min"),
    ("examples/s", "examples_per_second", amount, 20, "max"),
    ("weights", "parameters", amount, 10, "min"),
]
FIXED = {"experiment", "seeds", "folds", "runs", "state", "remark", "weights", "time", "seconds", "epochs", "p"}
NOT_RUN = "not run"


@dataclass(slots=True)
class Column:
    """A column. Without texts it is for programs alone; where the terminal is narrow, the least important ones go."""

    name: str
    values: list[Any]  # None where there is nothing
    texts: list[str] = field(default_factory=list)
    importance: float = 0
    for_programs: bool = True
    best: set[int] = field(default_factory=set)  # rows to be marked
    mode: str = "min"  # `max` if the largest comes first when rows are sorted by it
    is_score: bool = False

    def ordered(self, rows: Sequence[int]) -> "Column":
        """The same column with its rows in another order."""
        return replace(
            self,
            values=[self.values[row] for row in rows],
            texts=[self.texts[row] for row in rows] if self.texts else [],
            best={place for place, row in enumerate(rows) if row in self.best},
        )


@dataclass(slots=True)
class Frame:
    """What a table is about. It follows from all rows together; then others, such as each run alone, fit into it."""

    decisive: str | None  # the title of the score that rows are compared by
    axes: list[str]  # in which the runs of a row differ
    params: list[str]  # the hyperparameters that are told

    @property
    def kind(self) -> str:
        """What the runs of a row are: seeds, folds, or both."""
        return f"{self.axes[0]}s" if len(self.axes) == 1 else "runs"


def make_columns(groups: Sequence[Group], frame: Frame, metrics: Sequence[Metric] | None = None) -> list[Column]:
    """What a frame tells of each of these rows, whose `metrics` may have been measured already."""
    metrics = [*measure(groups, "val"), *measure(groups, "test")] if metrics is None else metrics
    compared = next((metric for metric in metrics if metric.title == frame.decisive), None)
    others = [metric for metric in metrics if metric is not compared]
    return [
        *_identity(groups, compared, frame),
        *_hyperparameters(groups, frame.params),
        *(_judged_scores(groups, compared, frame) if compared else []),
        *(column for metric in others for column in _scores(groups, metric, 50 if metric.split == "val" else 60)),
        *_circumstances(groups),
    ]


def _identity(groups: Sequence[Group], compared: Metric | None, frame: Frame) -> Iterator[Column]:
    """Names, and how many runs a row stands for."""
    names = [group.name for group in groups]
    yield Column("experiment", names, names, 100)
    if frame.axes:
        all_runs = [len(group.entries) for group in groups]
        samples = compared.samples if compared else [{} for _ in groups]
        counts = [len(sample) or _scored(group) for sample, group in zip(samples, groups, strict=True)]
        texts = [f"{n}" if of in (1, n) else f"{n} of {of}" for n, of in zip(counts, all_runs, strict=True)]
        yield Column(frame.kind, counts, texts, 80)


def _scored(group: Group) -> int:
    """How many runs have any score."""
    return sum(bool(entry.val) for entry in group.counted)


def _hyperparameters(groups: Sequence[Group], keys: Sequence[str]) -> Iterator[Column]:
    """Their values; the better one tells rows apart, the longer it stays where there is little room."""
    for key in keys:
        values = [group.params.get(key) for group in groups]
        texts = [param_text(value) for value in values]
        importance = 70 + 4 * _information(texts)
        yield Column(f"params {key}" if key in FIXED else key, values, texts, importance)


def _information(texts: Sequence[str]) -> float:
    """How well texts tell rows apart: 0 if all are equal, 1 if no two are."""
    if len(texts) < 2:
        return 0.0
    shares = [count / len(texts) for count in Counter(texts).values()]
    return -sum(share * math.log(share) for share in shares) / math.log(len(texts))


def _judged_scores(groups: Sequence[Group], metric: Metric, frame: Frame) -> Iterator[Column]:
    """The score that rows are compared by; where runs are repeated, its interval and the verdict on each row too."""
    yield from _scores(groups, metric, 99)
    if not frame.axes:
        return
    lows = [summary.low if summary else None for summary in metric.summaries]
    highs = [summary.high if summary else None for summary in metric.summaries]
    numbers = Numbers.like(metric.means)
    texts = [_interval_text(summary, numbers) for summary in metric.summaries]
    ends = [list(pair) for pair in zip(lows, highs, strict=True)]
    yield Column("95 % interval", ends, texts, 65, for_programs=False)
    yield Column(f"{metric.title} low", lows)
    yield Column(f"{metric.title} high", highs)
    yield Column(f"{metric.title} ends", [summary.ends if summary else None for summary in metric.summaries])
    is_judged = any(len(group.entries) > 1 for group in groups)
    judged = verdicts(groups, metric, frame.kind.removesuffix("s")) if is_judged else [Verdict("") for _ in groups]
    texts, p_values = [verdict.text for verdict in judged], [verdict.p for verdict in judged]
    yield Column("vs best", texts, texts, 60 if p_values.count(None) == len(p_values) else 75)
    yield Column("p", p_values)


def _interval_text(summary: Summary | None, numbers: Numbers) -> str:
    if summary is None or summary.low is None or summary.high is None:
        return ""
    remark = {INTERVAL: "", CUT: ", cut", RANGE: ", range"}[summary.ends or INTERVAL]
    return f"{numbers.text(summary.low)} to {numbers.text(summary.high)}{remark}"


def _scores(groups: Sequence[Group], metric: Metric, importance: int) -> Iterator[Column]:
    """The means of a metric with their deviations."""
    numbers = Numbers.like(metric.means)
    texts = [_score_text(*pair, numbers) for pair in zip(metric.summaries, groups, strict=True)]
    mode = metric.mode or "max"
    yield Column(metric.title, metric.means, texts, importance, best=metric.best, mode=mode, is_score=True)
    deviations = [summary.deviation if summary else None for summary in metric.summaries]
    if any(deviation is not None for deviation in deviations):
        yield Column(f"{metric.title} std", deviations)


def _score_text(summary: Summary | None, group: Group, numbers: Numbers) -> str:
    """Mean and deviation, of how many runs if not of all; in brackets where none of them is finished."""
    if summary is None:
        return ""
    count = "" if summary.count in (0, len(group.counted)) else f" (n = {summary.count})"
    text = f"{numbers.spread(summary.mean, summary.deviation)}{count}"
    return text if group.is_settled else f"({text})"


def _circumstances(groups: Sequence[Group]) -> Iterator[Column]:
    """How the runs went: how far, how long, how fast, how it ended."""
    best_epochs = [_known(group, "best_epoch") for group in groups]
    yield Column("best epoch", [_mean(epochs) for epochs in best_epochs], [span(epochs) for epochs in best_epochs], 40)
    yield Column("epochs", [_mean(_known(group, "epochs")) for group in groups])
    for name, field_name, wording, importance, mode in QUANTITIES:
        means = [_mean(_known(group, field_name)) for group in groups]
        texts = ["" if mean is None else wording(mean) for mean in means]
        yield Column(name, means, texts, importance, for_programs=name != "time", mode=mode)
    yield Column("seconds", [_mean(_known(group, "seconds")) for group in groups])
    states = [state_of(group) for group in groups]
    finished = {entry.state for group in groups for entry in group.entries} == {"finished"}
    texts = [_state_text(*pair) for pair in zip(groups, states, strict=True)]
    yield Column("state", states, texts, 38 if finished else 90)
    remarks = [_remark(group) for group in groups]
    if any(remarks):
        yield Column("remark", remarks, remarks, 35)


def _known(group: Group, attribute: str) -> list[Any]:
    values = [getattr(entry, attribute) for entry in group.counted]
    return [value for value in values if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    if len(set(values)) < 2:
        return values[0] if values else None
    return sum(values) / len(values)


def state_of(group: Group) -> str:
    """The state of a run, or how many runs are in which."""
    counts = state_counts([group])
    return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{n} {state}" for state, n in counts.items())


def state_counts(groups: Iterable[Group]) -> dict[str, int]:
    """How many experiments are in which state, the most frequent first; of those of the course nobody knows."""
    entries = (entry for group in groups for entry in group.entries)
    return dict(Counter(entry.state or ("" if entry.has_run else NOT_RUN) for entry in entries).most_common())


def _state_text(group: Group, state: str) -> str:
    """The state, and how far a run came that did not come to its end: `running 7/20`."""
    entry = group.entries[0]
    on_the_way = len(group.entries) == 1 and entry.has_run and state not in ("", "finished")
    return f"{state} {entry.epochs}/{entry.params.get('num_epochs')}" if on_the_way else state


def _remark(group: Group) -> str:
    """Why runs ended early, and what could not be read."""
    said = [(entry.name, "; ".join(filter(None, [entry.reason, entry.remark]))) for entry in group.entries]
    if len(said) == 1:
        return said[0][1]
    return "; ".join(f"{name}: {remark}" for name, remark in said if remark)
