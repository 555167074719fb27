"""Which hyperparameters mattered: Optuna's figures of a search, made from what its experiments have left."""

import html
import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.comparison import differing
from engine.experiment import AXES, Entry
from engine.hyperparameters import HOW_IT_RUNS, Values
from engine.report.facts import number

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

FEWEST_TRIALS = 4  # for parallel coordinates
FEWEST_FOR_IMPORTANCE = 8
TREES = 32  # half of Optuna's default: twice as fast, and the shares agree to a few hundredths
WIDE = 30  # largest over smallest value, from which on a scale is logarithmic
LARGEST_DRAWN = 2**53  # up to which a whole number is a float; no hyperparameter is larger, but for a seed
COLOR = "#3f90da"  # to be seen on white and on black
NO_STUDIES = (
    f"Nothing to show: it takes {FEWEST_TRIALS} finished experiments in one folder whose hyperparameters differ, "
    "as search_hyperparams.py makes them."
)


def studies(entries: Sequence[Entry]) -> list[Values]:
    """For each folder with enough finished experiments side by side: a sentence and the figures."""
    by_folder: dict[str, list[Entry]] = {}
    for entry in entries:
        by_folder.setdefault(entry.name.rpartition("/")[0], []).append(entry)
    found = (_study_of(folder, members) for folder, members in by_folder.items())
    return [study for study in found if study is not None]


def _study_of(folder: str, entries: Sequence[Entry]) -> Values | None:
    monitor, mode = monitored(entries)
    trials = [entry for entry in entries if entry.state == "finished" and score(entry, monitor) is not None]
    varied = varied_params(trials)
    if len(trials) < FEWEST_TRIALS or not set(varied) - set(AXES):
        return None
    study = _rebuilt(trials, varied, monitor, mode)
    importance, remark = _importance(study, trials, varied)
    ranked = f"by their best val {monitor}; the better, the stronger the line"
    sentence = f"{len(trials)} finished of {len(entries)} experiments, {ranked}. {remark}"
    title = folder or "All in this folder"
    return {"title": title, "sentence": sentence, "parallel": _parallel(study, monitor), "importance": importance}


def monitored(entries: Sequence[Entry]) -> tuple[str, str]:
    """The score that most of the experiments watch, and whether it is better high or low."""
    counts = Counter((entry.monitor, entry.mode) for entry in entries if entry.monitor and entry.mode in ("max", "min"))
    if not counts:
        return ("accuracy", "max") if any("accuracy" in entry.val for entry in entries) else ("loss", "min")
    monitor, mode = counts.most_common(1)[0][0]
    return str(monitor), str(mode)


def score(entry: Entry, name: str) -> float | None:
    """A validation score of the best epoch, if it is a finite number."""
    return number(entry.val.get(name))


def varied_params(entries: Sequence[Entry]) -> list[str]:
    """The hyperparameters in which the experiments differ, but for those on which no result depends; seeds last."""
    names = [name for name in differing([entry.params for entry in entries]) if name not in HOW_IT_RUNS]
    return sorted(names, key=lambda name: name in AXES)


def _rebuilt(trials: Sequence[Entry], varied: Sequence[str], monitor: str, mode: str) -> "Study":
    """An Optuna study in memory that holds the experiments as its trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
    spaces = {name: _space([entry.params[name] for entry in trials if name in entry.params], name) for name in varied}
    trials = sorted(trials, key=lambda entry: score(entry, monitor) or 0.0, reverse=mode == "min")
    for entry in trials:  # the best is drawn last, on top
        given = [name for name in varied if name in entry.params]
        params = {label(name): _as_choice(entry.params[name], spaces[name]) for name in given}
        distributions = {label(name): spaces[name] for name in given}
        value = score(entry, monitor)
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
    return study


def _space(values: Sequence[Any], name: str) -> "BaseDistribution":
    """The space from which the values of a hyperparameter may have been drawn."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    numbers = [value for value in map(number, values) if value is not None and abs(value) <= LARGEST_DRAWN]
    if len(numbers) < len(values) or name in AXES:  # of seeds, neither order nor distance means anything
        return CategoricalDistribution(list(dict.fromkeys(map(_as_text, values))))
    low, high = min(numbers), max(numbers)
    logarithmic = low > 0 and high / low >= WIDE
    if all(isinstance(value, int) for value in numbers):
        return IntDistribution(int(low), int(high), log=logarithmic)
    return FloatDistribution(float(low), float(high), log=logarithmic)


def _as_choice(value: Any, space: "BaseDistribution") -> Any:
    return _as_text(value) if hasattr(space, "choices") else value


def _as_text(value: Any) -> str:
    return label(value if isinstance(value, str) else json.dumps(value))


def label(text: str) -> str:
    """Text for plotly, which would take `<b>`, `<a href>` and `&lt;` in it for markup."""
    return html.escape(" ".join(text.split()), quote=False)


def _parallel(study: "Study", monitor: str) -> Values:
    """Optuna's figure, but for its colors, which would be lost on black: the better a trial, the stronger its line."""
    from optuna.visualization import plot_parallel_coordinate

    figure = plot_parallel_coordinate(study, target_name=label(monitor))
    lines = figure.data = figure.data[:-1]  # without the scale: the first axis is one
    values = [trial.value or 0.0 for trial in study.trials]
    worst, best = values[0], values[-1]
    for line, value in zip(lines, values, strict=True):
        share = (value - worst) / (best - worst) if best != worst else 1.0
        line.update(line_color=COLOR, opacity=0.15 + 0.75 * share)
    figure.update_annotations(font_color=None)
    figure.update_layout(title=None, margin={"t": 40, "r": 20, "b": 40, "l": 60})
    return _plain_figure(figure)


def _importance(study: "Study", trials: Sequence[Entry], varied: Sequence[str]) -> tuple[Values | None, str]:
    """The figure of the importances, if there is enough to estimate them from; and what to say of it."""
    shared = [label(name) for name in varied if all(name in entry.params for entry in trials)]
    if len(shared) < 2:
        return None, "One hyperparameter varies: there is nothing to weigh it against."
    if len(trials) < FEWEST_FOR_IMPORTANCE:
        return None, f"Importances are estimated from {FEWEST_FOR_IMPORTANCE} finished experiments on."
    if len({trial.value for trial in study.trials}) == 1:
        return None, "All reached the same score: no hyperparameter mattered."
    from optuna.importance import FanovaImportanceEvaluator
    from optuna.visualization import plot_param_importances

    evaluator = FanovaImportanceEvaluator(n_trees=TREES, seed=0)
    figure = plot_param_importances(study, evaluator=evaluator, params=shared)
    figure.update_layout(title=None, margin={"t": 40, "r": 40, "b": 64, "l": 40}, bargap=0.5, showlegend=False)
    figure.update_layout(xaxis_title="share of the variance", yaxis_title=None)
    figure.update_traces(marker_color=COLOR, hovertemplate=None, hoverinfo="y+x")
    told = "Importance is the share of the scores' variance that a hyperparameter explains (fANOVA); an estimate."
    if "seed" in shared:
        told += " What ranks no higher than the seed is not told apart from chance."
    return _plain_figure(figure), told


def _plain_figure(figure: Any) -> Values:
    """The data and layout of a plotly figure, without the template, for which the page has its own colors."""
    content: Values = json.loads(figure.to_json())
    content["layout"].pop("template", None)
    return {"data": content["data"], "layout": content["layout"]}
