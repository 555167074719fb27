"""Which row is best in what, and by more than chance: each metric over all rows, and the verdict on each row."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.comparison.groups import Group, direction
from engine.comparison.statistics import FEWEST, Summary, holm, p_against, summarize
from engine.comparison.wording import p_text
from engine.experiment import AXES

Sample = dict[Any, float]  # the scores of runs, by seed and fold
SIGNIFICANT = 0.05


@dataclass(slots=True)
class Metric:
    """One score, of the validation or the test split, in every row."""

    split: str
    name: str
    mode: str | None  # whether it is better high (`max`) or low (`min`); None if nobody knows
    samples: list[Sample]  # one for each row
    summaries: list[Summary | None]
    means: list[float | None]

    @property
    def title(self) -> str:
        """What its column is called: `val accuracy`."""
        return f"{self.split} {self.name}"

    @property
    def best(self) -> set[int]:
        """The rows that nothing surpasses; none where all are equal, or where nobody knows what is better."""
        best = self.best_among(range(len(self.means)))
        if best is None:
            return set()
        equals = {row for row, mean in enumerate(self.means) if mean == self.means[best]}
        scored = [mean for mean in self.means if mean is not None]
        return equals if len(equals) < len(scored) else set()

    def best_among(self, rows: Iterable[int]) -> int | None:
        """The first of the rows with the best mean, if there is one."""
        scores = {row: mean for row in rows if (mean := self.means[row]) is not None and not math.isnan(mean)}
        if self.mode is None or not scores:
            return None
        return (max if self.mode == "max" else min)(scores, key=scores.__getitem__)


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
    metrics = []
    for name in names:
        samples = [{run: _nan(values[name]) for run, values in row if name in values} for row in scores]
        summaries = [summarize(list(sample.values())) if sample else None for sample in samples]
        means = [summary.mean if summary else None for summary in summaries]
        metrics.append(Metric(split, name, direction(name, entries), samples, summaries, means))
    return metrics


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def most_watched(groups: Sequence[Group], metrics: Sequence[Metric]) -> Metric | None:
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
        return [Verdict("")] * len(groups)
    found = [
        Verdict("best") if row == best else _verdict(group, groups[best], sample, metric.samples[best], axis)
        for row, (group, sample) in enumerate(zip(groups, metric.samples, strict=True))
    ]
    tested = [verdict for verdict in found if verdict.p is not None]
    for verdict, p in zip(tested, holm([verdict.p for verdict in tested if verdict.p is not None]), strict=True):
        verdict.p = p
        verdict.text = f"{'worse' if p < SIGNIFICANT else 'unclear'}, {p_text(p)}"
    return found


def _verdict(group: Group, best: Group, sample: Sample, best_sample: Sample, axis: str) -> Verdict:
    """The verdict before p values are raised, and before it is put into words where there is one."""
    if not sample or any(math.isnan(score) for score in sample.values()):
        return Verdict("")
    if group.data and best.data and group.data != best.data:
        return Verdict("other data")
    p = p_against(best_sample, sample)
    if p is None:
        return Verdict(f"1 {axis}" if len(sample) == 1 else f"too few {axis}s")
    return Verdict("", p)
