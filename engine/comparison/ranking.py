"""Which row is best in what, and by more than chance: each metric over all rows, and the verdict on each row."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.comparison.groups import Group, direction
from engine.comparison.statistics import FEWEST, Summary, held_against, holm, is_rounding, summarize
from engine.comparison.wording import p_text
from engine.experiment import AXES

Sample = dict[Any, float]  # the scores of runs, by seed and fold
SIGNIFICANT = 0.05
SHARES = {  # a score called so lies between 0 and 1, unless one is seen that does not
    *("accuracy", "acc", "f1", "precision", "recall", "sensitivity", "specificity", "auc", "auroc", "auprc"),
    *("ap", "map", "iou", "miou", "jaccard", "dice"),
}


@dataclass(slots=True)
class Metric:
    """One score, of the validation or the test split, in every row."""

    split: str
    name: str
    mode: str | None  # whether it is better high (`max`) or low (`min`); None if nobody knows
    samples: list[Sample]  # one for each row
    summaries: list[Summary | None]
    settled: list[bool]  # whether any run of the row is finished: else its score is none to be compared by

    @property
    def title(self) -> str:
        """What its column is called: `val accuracy`."""
        return f"{self.split} {self.name}"

    @property
    def means(self) -> list[float | None]:
        """The mean of each row, if it has one."""
        return [summary.mean if summary else None for summary in self.summaries]

    @property
    def best(self) -> set[int]:
        """The rows that nothing surpasses; none where all are equal, or where nobody knows what is better."""
        scores = self._settled_scores
        best = self.best_among(scores)
        if best is None:
            return set()
        equals = {row for row, mean in scores.items() if is_rounding(mean - scores[best], mean)}
        return equals if len(equals) < len(scores) else set()

    def best_among(self, rows: Iterable[int]) -> int | None:
        """The first of the rows with the best mean, if there is one; runs that are not finished are never best."""
        scores = self._settled_scores
        known = [row for row in rows if row in scores]
        if self.mode is None or not known:
            return None
        return (max if self.mode == "max" else min)(known, key=scores.__getitem__)

    @property
    def _settled_scores(self) -> dict[int, float]:
        """The means that are numbers, of the rows of which any run is finished."""
        pairs = enumerate(zip(self.means, self.settled, strict=True))
        return {row: mean for row, (mean, is_settled) in pairs if is_settled and mean is not None and mean == mean}


@dataclass(slots=True)
class Verdict:
    """What can be said of a row against the best one; p is None where nothing was tested."""

    text: str
    p: float | None = None


def measure(groups: Sequence[Group], split: str) -> list[Metric]:
    """Every metric of a split over all rows, in order of appearance."""
    scores = [[(entry.repetition, getattr(entry, split)) for entry in group.counted] for group in groups]
    names = dict.fromkeys(name for row in scores for _, values in row for name in values)
    entries = [entry for group in groups for entry in group.entries]
    settled = [group.is_settled for group in groups]
    metrics = []
    for name in names:
        told = [[(run, values[name]) for run, values in row if name in values] for row in scores]
        samples = [{run: value for run, value in row if value is not None} for row in told]
        within = (0.0, 1.0) if _is_share(name, samples) else None
        pairs = zip(told, samples, strict=True)  # a row whose scores are all NaN is told so, and is no empty one
        summaries = [summarize(list(sample.values()), within) if row else None for row, sample in pairs]
        metrics.append(Metric(split, name, direction(name, entries), samples, summaries, settled))
    return metrics


def _is_share(name: str, samples: Iterable[Sample]) -> bool:
    """Whether a score is known to lie between 0 and 1."""
    is_named = not SHARES.isdisjoint(re.split(r"[^a-z0-9]+", name.lower()))
    return is_named and all(0 <= value <= 1 for sample in samples for value in sample.values())


def decisive(groups: Sequence[Group], metrics: Sequence[Metric]) -> Metric | None:
    """The validation metric that most of the experiments watch, or the first one if that is not told."""
    watched = Counter(entry.monitor for group in groups for entry in group.entries if entry.val)
    validated = [metric for metric in metrics if metric.split == "val"]
    return max(validated, key=lambda metric: watched[metric.name], default=None)


def repeated_axes(groups: Sequence[Group]) -> list[str]:
    """In what the experiments of any group differ: `seed`, `fold`, or both."""
    pairs = [(group.entries[0].repetition, entry.repetition) for group in groups for entry in group.entries[1:]]
    return [axis for position, axis in enumerate(AXES) if any(a[position] != b[position] for a, b in pairs)]


def verdicts(groups: Sequence[Group], metric: Metric, axis: str) -> list[Verdict]:
    """Whether each row is worse than the best one by more than chance; p values are Holm's, over all rows tested.

    The best one is that of the highest mean among those with runs enough to tell, so that a lucky single run is not
    what all are held against. That it was chosen for its score flatters it a little, which no test here undoes.
    """
    best = metric.best_among(row for row, sample in enumerate(metric.samples) if len(sample) >= FEWEST)
    best = metric.best_among(range(len(groups))) if best is None else best
    if best is None:
        return [Verdict("") for _ in groups]
    found = [
        Verdict("best") if row == best else _verdict(row, best, groups, metric, axis) for row in range(len(groups))
    ]
    tested = [verdict for verdict in found if verdict.p is not None]
    for verdict, p in zip(tested, holm([verdict.p for verdict in tested if verdict.p is not None]), strict=True):
        verdict.p = p
        verdict.text = f"{verdict.text if p < SIGNIFICANT else 'unclear'}, {p_text(p)}"
    return found


def _verdict(row: int, best: int, groups: Sequence[Group], metric: Metric, axis: str) -> Verdict:
    """The verdict that holds where p, when it is raised, stays small; the reason where nothing is tested."""
    sample = metric.samples[row]
    if not sample:
        return Verdict("")
    if not metric.settled[row]:
        return Verdict("not finished")
    if groups[row].data and groups[best].data and groups[row].data != groups[best].data:
        return Verdict("other data")
    found = held_against(metric.samples[best], sample)
    if found is None:
        return Verdict(f"1 {axis}" if len(sample) == 1 else f"too few {axis}s")
    is_worse = found.mean > 0 if metric.mode == "max" else found.mean < 0
    return Verdict("worse" if is_worse else f"better on shared {axis}s", found.p)
