"""A learning-rate range test: which rates the network bears, with a picture."""

import itertools
import math
import time
from pathlib import Path

from engine.check.finding import CannotJudge, Finding, failed, passed
from engine.check.learning import ENOUGH, take_step, train_briefly
from engine.check.project import Project
from engine.training import set_training_mode

LOWEST, HIGHEST = 1e-6, 10.0
STEPS = 100
FEWEST = 40
SMOOTHING = 0.9
PICTURE = "learning_rate_range.png"


def learning_rate_is_borne(project: Project) -> Finding:
    """The rate of params.json is not far above those at which the loss falls: if it seems so, both are tried."""
    rates, losses = range_test(project)
    if len(rates) < FEWEST:
        raise CannotJudge(f"{len(rates)} steps are all there was time for")
    suggested, typed = steepest(rates, losses), project.params.learning_rate
    place = draw(rates, losses, suggested, typed, project.folder)
    seen = f"learning_rate {typed:g}; the loss falls fastest at {suggested:.2g}{place}"
    if typed > 3 * suggested:
        own, less = train_briefly(project, STEPS), train_briefly(project, STEPS, factor=suggested / typed)
        if less.reached > ENOUGH / 5 and own.reached < ENOUGH * less.reached:
            return failed(
                f"{seen}; after {len(own.skills)} steps at it less is known than at that", f"try {suggested:.1g}"
            )
    return passed(seen)


def range_test(project: Project) -> tuple[list[float], list[float]]:
    """Rates that grow from step to step, and the smoothed loss at each; ends where the loss explodes."""
    model = project.network()
    optimizer = project.optimizer_of(project.task, model, project.params)
    base = [float(group["lr"]) for group in optimizer.param_groups]
    rates: list[float] = []
    losses: list[float] = []
    average, until = 0.0, time.perf_counter() + project.seconds / 15
    set_training_mode(model)
    for number, batch in enumerate(itertools.islice(itertools.cycle(project.batches["train"]), STEPS)):
        rate = LOWEST * (HIGHEST / LOWEST) ** (number / (STEPS - 1))
        for group, own in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = rate * (own / base[0] if base[0] else 1.0)
        loss = take_step(project, model, optimizer, batch).loss.item()
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smooth = average / (1 - SMOOTHING ** (number + 1))
        if not math.isfinite(loss) or (losses and smooth > 4 * min(losses) + 1e-9) or time.perf_counter() > until:
            break
        rates.append(rate)
        losses.append(smooth)
    return rates, losses


def steepest(rates: list[float], losses: list[float]) -> float:
    """The rate at which the loss falls fastest, before its least value."""
    lowest = max(2, losses.index(min(losses)))
    falls = [losses[place - 2] - losses[place] for place in range(2, lowest + 1)]
    return rates[1 + falls.index(max(falls))]


def draw(rates: list[float], losses: list[float], suggested: float, typed: float, folder: Path | None) -> str:
    """The picture in the experiment's folder, if there is one; says where."""
    if folder is None or not folder.is_dir():
        return ""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(rates, losses, color="tab:blue")
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss, smoothed")
    axes.axvline(suggested, color="tab:green", linestyle="--", label=f"falls fastest: {suggested:.2g}")
    axes.axvline(typed, color="tab:grey", linestyle=":", label=f"params.json: {typed:g}")
    axes.legend()
    try:
        figure.savefig(folder / PICTURE)
    except OSError as error:  # no reason to leave out the checks that follow
        return f"; {folder / PICTURE} cannot be written ({error.strerror})"
    return f", see {folder / PICTURE}"
