"""The table of a comparison: its rows in their order, what is told of each, and what is to be said below them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engine.comparison.columns import Column, Frame, make_columns
from engine.comparison.groups import Group, differing
from engine.comparison.ranking import Metric, decisive, measure, repeated_axes
from engine.comparison.statistics import CUT, FEWEST, INTERVAL, RANGE
from engine.errors import UserError, did_you_mean
from engine.experiment import AXES
from engine.hyperparameters import HOW_IT_RUNS

METRICS_FIRST = ("val ", "test ", "")


@dataclass(slots=True)
class Table:
    """The rows of a comparison, the best first, and what is to be said below them."""

    frame: Frame
    groups: list[Group]
    columns: list[Column]
    notes: list[tuple[str, str]]  # each with the column that it explains; "" if it matters in any case


def make_table(groups: Sequence[Group], sort: str | None = None, asked_for: Sequence[str] = ()) -> Table:
    """The table of some groups, sorted by the column `sort`, or by the score that most experiments watch.

    Of the hyperparameters it has those that differ, and those that are `asked_for`. By a score, what is finished comes
    before what is not.
    """
    metrics = [*measure(groups, "val"), *measure(groups, "test")]
    compared = _metric_called(sort, metrics) or decisive(groups, metrics)
    axes = repeated_axes(groups)
    frame = Frame(compared.title if compared else None, axes, _told_params(groups, axes, asked_for))
    columns = make_columns(groups, frame, metrics)
    by = find_column(columns, sort or frame.decisive or "experiment", METRICS_FIRST)

    def place(row: int) -> tuple[Any, ...]:
        return by.is_score and not groups[row].is_settled, *_sort_key(by.values[row], by.mode)

    rows = sorted(range(len(groups)), key=place)
    judged = (text for column in columns if column.name == "vs best" for text in column.texts)
    notes = [*_explanations(groups, compared, frame, judged), *(("", warning) for warning in _warnings(groups))]
    return Table(frame, [groups[row] for row in rows], [column.ordered(rows) for column in columns], notes)


def _told_params(groups: Sequence[Group], axes: Sequence[str], asked_for: Sequence[str]) -> list[str]:
    """Hyperparameters that differ, as far as results may depend on them, and those that are asked for."""
    params = [group.params for group in groups]
    differ = [key for key in differing(params) if key not in HOW_IT_RUNS and not (axes and key in AXES)]
    return list(dict.fromkeys([*differ, *(name for name in asked_for if any(name in values for values in params))]))


# Names and order


def find_column(
    columns: Iterable[Column],
    name: str,
    prefixes: Sequence[str] = ("", "val ", "test "),
    others: Iterable[str] = (),
) -> Column:
    """The column called `name`; `accuracy` and `val_accuracy` do for `val accuracy`.

    Raises `UserError` with the nearest name if there is none; `others` could be asked for as well.
    """
    by_name = {_plain(column.name): column for column in columns}
    for prefix in prefixes:
        if _plain(prefix + name) in by_name:
            return by_name[_plain(prefix + name)]
    names = [column.name for column in by_name.values()]
    hint = did_you_mean(name, {*names, *(name.removeprefix("val ") for name in names), *others})
    raise UserError(f'there is no column "{name}"{hint or "; there are: " + ", ".join(names)}')


def _metric_called(name: str | None, metrics: Iterable[Metric]) -> Metric | None:
    titles = {_plain(metric.title): metric for metric in metrics}
    found = (titles.get(_plain(prefix + name)) for prefix in METRICS_FIRST) if name else ()
    return next(filter(None, found), None)


def _plain(name: str) -> str:
    return name.replace("_", " ").lower()


def _sort_key(value: Any, mode: str) -> tuple[int, float, str]:
    """Numbers first, best first, then texts; at the end what is not there, or not a number."""
    if isinstance(value, int | float) and value == value:
        return 0, -value if mode == "max" else value, ""
    return (1, 0, value) if isinstance(value, str) else (2, 0, "")


# What is to be said below


def _explanations(
    groups: Sequence[Group], compared: Metric | None, frame: Frame, verdict_texts: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """How columns are to be read, each with the column's name."""
    if not compared:
        return
    title = compared.title
    if not all(group.is_settled for group in groups if any(entry.val for entry in group.entries)):
        yield title, "A score in brackets is of runs that are not finished: it is shown, and never the best."
    if frame.axes:
        yield from _explained_spread(groups, compared, frame.kind)
        yield from _explained_verdicts(compared, frame.kind, len(groups), " ".join(verdict_texts))
    elif sum(mean is not None for mean in compared.means) > 1:
        yield title, "One run per row: a small difference may be chance; runs with other seeds show how much is."
    if "fold" in frame.axes:
        yield title, "Folds share training data, so that intervals and p come out too small (Nadeau and Bengio, 2003)."


def _explained_spread(groups: Sequence[Group], compared: Metric, kind: str) -> Iterator[tuple[str, str]]:
    title = compared.title
    yield title, f"±: standard deviation over {kind}."
    if any(0 < len(sample) < len(group.entries) for sample, group in zip(compared.samples, groups, strict=True)):
        yield kind, '"5 of 6": only finished runs with a number count, where there are any.'
    ends = {summary.ends for summary in compared.summaries if summary}
    if ends & {INTERVAL, CUT}:
        yield "95 % interval", f"95 % interval: holds the true mean of {title} in 95 of 100 cases (Student's t)."
    if CUT in ends:
        yield "95 % interval", f"Cut: at 0 or 1, as no {title} lies outside."
    if RANGE in ends:
        yield "95 % interval", f"Range: from the lower to the higher of two {kind}, too few for an interval."
    if any(summary and summary.deviation == 0 and summary.count > 2 for summary in compared.summaries):
        yield "95 % interval", f"No interval where all {kind} have the same score: how far they spread is not known."


def _explained_verdicts(compared: Metric, kind: str, rows: int, texts: str) -> Iterator[tuple[str, str]]:
    if "p " in texts:
        verdict = f'"worse" than the best row in {compared.title} by more than chance; "unclear" may be chance'
        test = f"Paired t test where {kind} are shared, else Welch's; p after Holm."
        better = f' "Better" where both have the same {kind}, worse by those that only one has.'
        few = f'"too few" below {FEWEST} {kind}'
        yield "vs best", f"vs best: {verdict}; {few}. {test}{better if 'better on' in texts else ''}"
    elif rows > 1:
        yield compared.title, f"Whether rows differ by more than chance is tested from {FEWEST} {kind} on."


def _warnings(groups: Sequence[Group]) -> Iterator[str]:
    """What makes rows hard to compare."""
    if len({entry.data for group in groups for entry in group.entries} - {""}) > 1:
        yield "Caution: not all rows were trained on the same data; scores on other data do not compare."
    codes: defaultdict[str, set[str]] = defaultdict(set)
    for group in groups:
        for entry in group.entries:
            codes[str(entry.params.get("task"))].add(entry.code)
    if any(len(versions - {""}) > 1 for versions in codes.values()):
        yield "Caution: the code of the task changed between rows; --diff A B shows how."
