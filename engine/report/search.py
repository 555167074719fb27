"""Which hyperparameters mattered: the scores of a folder's configurations against them, and Optuna's estimate."""

import html
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.comparison import Group, Metric, decisive, differing, measure, state_counts
from engine.experiment import AXES
from engine.hyperparameters import HOW_IT_RUNS, Values
from engine.report.curves import Curves, number
from engine.report.facts import Facts, instant
from engine.report.progress import Step, progress

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

FEWEST = 3  # configurations from which on something is drawn
FEWEST_FOR_IMPORTANCE = 10
TREES = 32  # half of Optuna's default: twice as fast, and the shares agree to a few hundredths
RESAMPLES = 4  # of the configurations, each with half of the trees: how far the shares are to be trusted
MOST_WEIGHED = 200  # configurations, and
MOST_KEYS = 24  # hyperparameters: with more of either the estimate takes minutes, and gets no better
MOST_LINES = 100  # of parallel coordinates, the best ones: more are a slab of ink, and
MOST_AXES = 8  # of parallel coordinates, side by side
WIDE = 30  # largest over smallest value, from which on a scale is logarithmic
LARGEST_DRAWN = 2**53  # up to which a whole number is a float; no hyperparameter is larger, but for a seed
COLOR = "#3f90da"  # to be seen on white and on black
NO_STUDIES = (
    f"Nothing to show: it takes {FEWEST} configurations with a score in one folder whose hyperparameters differ, "
    "as search_hyperparams.py makes them."
)


class Trial(NamedTuple):
    """A configuration with all of its seeds."""

    name: str
    params: Values
    score: float  # the mean over its seeds
    deviation: float | None
    is_pruned: bool  # given up, so that its score is that of fewer epochs
    comparable: float | None  # its score at an epoch that all have reached
    begun: float | None  # seconds since 1970
    ended: float | None


def studies(groups: Sequence[Group], facts: Sequence[Facts]) -> list[Values]:
    """For each folder with enough configurations side by side: a sentence and the figures."""
    by_name = {one.entry.name: one for one in facts}
    by_folder: dict[str, list[Group]] = {}
    for group in groups:
        by_folder.setdefault(group.entries[0].name.rpartition("/")[0], []).append(group)
    found = (_study_of(folder, members, by_name) for folder, members in by_folder.items())
    return [study for study in found if study is not None]


def _study_of(folder: str, groups: Sequence[Group], facts: Mapping[str, Facts]) -> Values | None:
    metric = decisive(groups, measure(groups, "val"))
    if metric is None or metric.mode is None:
        return None
    epoch = _shared_epoch(groups)
    trials = list(_trials(groups, metric, epoch, facts))
    keys = [key for key in differing([trial.params for trial in trials]) if key not in HOW_IT_RUNS.union(AXES)]
    if len(trials) < FEWEST or not keys:
        return None
    shares, remark = _importance(trials, keys, metric.mode, epoch)
    ranked = sorted(keys, key=lambda key: -shares.get(key, (0.0, 0.0))[0])[:MOST_KEYS]
    left_out = f" Of {len(keys)} hyperparameters {MOST_KEYS} are shown." if len(keys) > MOST_KEYS else ""
    left_out += f" The lines are those of the best {MOST_LINES}." if len(trials) > MOST_LINES else ""
    return {
        "title": folder or "All in this folder",
        "sentence": f"{_counted(trials, groups)}, by their {metric.title}. {remark}{left_out}",
        "score": metric.title,
        "trials": _as_columns(trials),
        "slices": [_slice(key, trials) for key in ranked],
        "progress": _progress(trials, metric.mode),
        "parallel": _parallel(trials, ranked[:MOST_AXES], metric) if len(keys) > 1 else None,
        "importance": _bars(shares) if shares else None,
    }


def _trials(groups: Sequence[Group], metric: Metric, epoch: int | None, facts: Mapping[str, Facts]) -> Iterator[Trial]:
    """The configurations that are finished, or were given up."""
    for group, summary in zip(groups, metric.summaries, strict=True):
        is_pruned = not group.is_settled and "pruned" in state_counts([group])
        if summary is None or not summary.count or not (group.is_settled or is_pruned):
            continue
        runs = [facts[entry.name] for entry in group.counted]
        found = [_best_until(epoch, run.curves, metric) for run in runs] if epoch else [summary.mean]
        known = [score for score in found if score is not None]
        comparable = fmean(known) if known else None
        times = _times(runs)
        yield Trial(group.name, group.params, summary.mean, summary.deviation, is_pruned, comparable, *times)


def _times(runs: Sequence[Facts]) -> tuple[float | None, float | None]:
    """When the first of some runs began, and when the last one ended, if that is known of all."""
    begun = [instant(str(run.run.get("started")).replace("T", " ")) for run in runs]
    ended = [run.ended for run in runs if run.ended is not None]
    if len(ended) < len(runs) or math.inf in begun:
        return None, None
    return min(begun), max(ended)


def _shared_epoch(groups: Sequence[Group]) -> int | None:
    """The last epoch that all configurations have reached; None if none was given up, as then all count in full."""
    pruned = [entry.epochs for group in groups for entry in group.entries if entry.state == "pruned" and entry.val]
    return min(pruned, default=None)


def _best_until(epoch: int, curves: Curves, metric: Metric) -> float | None:
    """The best score of a run up to an epoch."""
    points = zip(curves.get("epoch", []), curves.get(f"val_{metric.name}", []), strict=False)
    scores = [score for reached, score in points if score is not None and reached is not None and reached <= epoch]
    return (max if metric.mode == "max" else min)(scores, default=None)


def _counted(trials: Sequence[Trial], groups: Sequence[Group]) -> str:
    runs = sum(len(group.entries) for group in groups)
    pruned = sum(trial.is_pruned for trial in trials)
    given_up = f", {pruned} of them given up (hollow)" if pruned else ""
    others = f" of {len(groups)}" if len(trials) < len(groups) else ""
    return f"{len(trials)}{others} configurations ({runs} experiments){given_up}"


def _as_columns(trials: Sequence[Trial]) -> Values:
    """What the figures tell of each configuration."""
    return {
        "names": [trial.name for trial in trials],
        "scores": [trial.score for trial in trials],
        "errors": [trial.deviation for trial in trials],
        "pruned": [trial.is_pruned for trial in trials],
    }


def _progress(trials: Sequence[Trial], mode: str) -> Values | None:
    """The best so far over trials and time, where it is known when they ran."""
    steps = [
        Step(place, trial.score, trial.begun, trial.ended, trial.is_pruned)
        for place, trial in enumerate(trials)
        if trial.begun is not None and trial.ended is not None
    ]
    return progress(steps, mode) if len(steps) >= FEWEST else None


# Score against one hyperparameter


def _slice(key: str, trials: Sequence[Trial]) -> Values:
    """The values of one hyperparameter in all configurations; amounts on a scale, all else by name."""
    values = [trial.params.get(key) for trial in trials]
    numbers = [amount for amount in map(number, values) if amount is not None]
    is_scale = len(numbers) == len(values) and max(map(abs, numbers)) <= LARGEST_DRAWN
    is_logarithmic = is_scale and min(numbers) > 0 and max(numbers) / min(numbers) >= WIDE
    return {
        "name": key,
        "scale": "log" if is_logarithmic else "linear" if is_scale else "category",
        "x": values if is_scale else [_as_text(value) for value in values],
    }


# Optuna's figures


def _importance(
    trials: Sequence[Trial], keys: Sequence[str], mode: str, epoch: int | None
) -> tuple[dict[str, tuple[float, float]], str]:
    """The share of each hyperparameter and its deviation, where they can be estimated; and what to say of it."""
    known = [trial for trial in trials if trial.comparable is not None]
    shared = [key for key in keys if all(key in trial.params for trial in known)][:MOST_KEYS]
    if len(shared) < 2:
        return {}, "One hyperparameter varies: there is nothing to weigh it against."
    if len(known) < FEWEST_FOR_IMPORTANCE:
        return {}, f"Importances are estimated from {FEWEST_FOR_IMPORTANCE} configurations on."
    if len({trial.comparable for trial in known}) == 1:
        return {}, "All reached the same score: no hyperparameter mattered."
    draw = random.Random(0)
    known = draw.sample(known, MOST_WEIGHED) if len(known) > MOST_WEIGHED else known
    shares = _fanova(known, shared, mode, TREES)
    samples = [_fanova(draw.choices(known, k=len(known)), shared, mode, TREES // 2) for _ in range(RESAMPLES)]
    at = f"at epoch {epoch}, which all reached, " if epoch else ""
    told = (
        f"Importance: the share of the variance of the scores {at}that a hyperparameter explains (fANOVA), ± its "
        f"standard deviation where the {len(known)} configurations are drawn anew; an estimate."
    )
    return {key: (shares[key], stdev(sample[key] for sample in samples)) for key in shared}, told


def _fanova(trials: Sequence[Trial], keys: Sequence[str], mode: str, trees: int) -> dict[str, float]:
    """Optuna's importances."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    scores = [trial.comparable or 0.0 for trial in trials]
    if len(set(scores)) == 1:
        return dict.fromkeys(keys, 0.0)
    names = {f"{place}": key for place, key in enumerate(keys)}
    study = _rebuilt(trials, scores, {key: name for name, key in names.items()}, mode)
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(n_trees=trees, seed=0))
    return dict.fromkeys(keys, 0.0) | {names[name]: share for name, share in found.items() if math.isfinite(share)}


def _rebuilt(trials: Sequence[Trial], scores: Sequence[float], names: Mapping[str, str], mode: str) -> "Study":
    """An Optuna study in memory that holds the configurations as its trials, each key under its name there."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
    spaces = {key: _space([trial.params[key] for trial in trials if key in trial.params]) for key in names}
    for trial, score in zip(trials, scores, strict=True):
        given = [key for key in names if key in trial.params]
        params = {names[key]: _as_choice(trial.params[key], spaces[key]) for key in given}
        distributions = {names[key]: spaces[key] for key in given}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=score))
    return study


def _space(values: Sequence[Any]) -> "BaseDistribution":
    """The space from which the values of a hyperparameter may have been drawn."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    numbers = [value for value in map(number, values) if value is not None and abs(value) <= LARGEST_DRAWN]
    if len(numbers) < len(values):
        return CategoricalDistribution(list(dict.fromkeys(map(_as_text, values))))
    low, high = min(numbers), max(numbers)
    logarithmic = low > 0 and high / low >= WIDE
    if all(isinstance(value, int) for value in numbers):
        return IntDistribution(int(low), int(high), log=logarithmic)
    return FloatDistribution(float(low), float(high), log=logarithmic)


def _as_choice(value: Any, space: "BaseDistribution") -> Any:
    return _as_text(value) if hasattr(space, "choices") else value


def _as_text(value: Any) -> str:
    return label(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def label(text: str) -> str:
    """Text for plotly, which would take `<b>`, `<a href>` and `&lt;` in it for markup."""
    return html.escape(" ".join(text.split()), quote=False)


def _parallel(trials: Sequence[Trial], keys: Sequence[str], metric: Metric) -> Values:
    """Optuna's figure, but for its colors, which would be lost on black: the better a trial, the stronger its line."""
    from optuna.visualization import plot_parallel_coordinate

    trials = sorted(trials, key=lambda trial: trial.score, reverse=metric.mode == "min")[-MOST_LINES:]  # best on top
    study = _rebuilt(trials, [trial.score for trial in trials], {key: label(key) for key in keys}, metric.mode or "max")
    figure = plot_parallel_coordinate(study, target_name=label(metric.name))
    lines = figure.data = figure.data[:-1]  # without the scale: the first axis is one
    worst, best = trials[0].score, trials[-1].score
    for line, trial in zip(lines, trials, strict=True):
        share = (trial.score - worst) / (best - worst) if best != worst else 1.0
        line.update(line_color=COLOR, opacity=0.15 + 0.75 * share)
    figure.update_annotations(font_color=None)
    figure.update_layout(title=None, margin={"t": 40, "r": 20, "b": 40, "l": 60})
    content: Values = json.loads(figure.to_json())
    content["layout"].pop("template", None)  # for which the page has its own colors
    return {"data": content["data"], "layout": content["layout"]}


def _bars(shares: Mapping[str, tuple[float, float]]) -> Values:
    """The figure of the importances, the largest on top."""
    ranked = sorted(shares, key=lambda key: shares[key][0])
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": [label(key) for key in ranked],
        "x": [shares[key][0] for key in ranked],
        "error_x": {
            "type": "data",
            "array": [shares[key][1] for key in ranked],
            "thickness": 1.5,
            "width": 4,
            "color": "#94a4a2",
        },
        "marker": {"color": COLOR},
        "hovertemplate": "%{y}: %{x:.2f}<extra></extra>",
    }
    margin = {"t": 12, "r": 20, "b": 56, "l": 40}
    layout = {
        "margin": margin,
        "bargap": 0.5,
        "xaxis": {"title": {"text": "share of the variance"}, "rangemode": "tozero"},
    }
    return {"data": [bars], "layout": layout}
