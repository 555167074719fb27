"""Whether the network can learn, learns what it should, and learns nothing where there is nothing to learn."""

import itertools
import math
import time
from typing import Any, NamedTuple

import torch
from scipy import stats
from torch import nn
from torch.optim import Optimizer

from engine.check.finding import CannotJudge, Finding, failed, passed, warned
from engine.check.heads import Head, joined
from engine.check.project import Broken, Project, Result, take, with_shuffled_labels
from engine.seeds import derive
from engine.training import set_training_mode
from engine.wording import counted

EXAMPLES_BY_HEART = 8
STEPS_BY_HEART = 150
STEPS = 300  # of a brief training
LOOK_EVERY = 50
STEPS_SHUFFLED = 100
FEWEST_STEPS = 60  # below which a brief training says nothing
ENOUGH = 0.5  # of the way from chance to certainty
UNLIKELY = 1e-6  # chance alone: this check is asked by many people, many times
ATTEMPTS = 3
RATES = (1e-3, 1e-2, 1e-1)


class Course(NamedTuple):
    """A brief training: how far from chance (0) to certainty (1) each step was, and what came of it."""

    model: nn.Module
    skills: list[float]

    @property
    def reached(self) -> float:
        """The skill over the last third of the steps; minus infinity where it broke down."""
        last = self.skills[-max(1, len(self.skills) // 3) :]
        return -math.inf if any(math.isnan(skill) for skill in last) else sum(last) / len(last)


def first_loss_is_near_chance(project: Project) -> Finding:
    """An untrained network of classes costs about what knowing nothing does: the logarithm of their number."""
    model = project.network()
    set_training_mode(model)
    result = project.run(model, project.batches["train"][0])
    for name, head in result.heads.items():
        if head.kind == "values":
            continue
        number = head.outputs.shape[1] if head.kind == "classes" else 2
        uniform, start = math.log(number), head.losses().mean().item()
        seen = f"{name or 'cross-entropy'} begins at {start:.3g}, and chance is ln {number} = {uniform:.3g}"
        if start > 2 * uniform:
            return warned(seen, "it is sure of itself and wrong: smaller first weights, or normalised inputs")
        if start < head.chance() / 2 and project.weights is None:
            return warned(seen, "it knows already: pretrained weights, or labels that are among the inputs")
        return passed(seen)
    raise CannotJudge("the labels are no classes")


def one_batch_is_learnt_by_heart(project: Project) -> Finding:
    """A few examples, over and over, are known in the end, at one learning rate or another."""
    batch, size = project.batches["train"][0], None
    try:
        size = project.size(project.run(project.network().eval(), batch))
        few = take(batch, torch.arange(min(size, EXAMPLES_BY_HEART)), size)
        project.attempt(project.network().train(), few, "a few examples")
    except CannotJudge:
        few = batch
    best, fewest = -math.inf, STEPS_BY_HEART
    for rate in RATES:
        skills, steps = _memorise(project, few, rate)
        best, fewest = max(best, *skills), min(fewest, steps)
        if best > 1 - ENOUGH / 2:
            return passed(f"{_number(few, size)} in {len(skills)} steps of Adam at {rate:g}")
    if best > ENOUGH:
        return passed(f"{_number(few, size)}, as good as this network can in {STEPS_BY_HEART} steps")
    if fewest < FEWEST_STEPS:
        raise CannotJudge(f"{counted(fewest, 'step')} of Adam at a rate are all there was time for")
    seen = f"{_number(few, size)}: Adam comes {max(best, 0):.0%} of the way from chance to certainty"
    return failed(
        seen, "network or loss cannot learn: look at the sign of the loss, first weights, and what else failed"
    )


def _number(few: Any, size: int | None) -> str:
    return "one batch" if size is None else f"{min(size, EXAMPLES_BY_HEART)} examples"


def _memorise(project: Project, few: Any, rate: float) -> tuple[list[float], int]:
    """How far each step on the same examples comes, without dropout, and for how many of them there was time.

    It ends when they are known, or nothing is any more: then there was time for all.
    """
    model = project.network()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)
    skills: list[float] = []
    first: float | None = None
    until = time.perf_counter() + project.seconds / 15
    while len(skills) < STEPS_BY_HEART and time.perf_counter() < until:
        set_training_mode(model)
        for module in model.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        result = take_step(project, model, optimizer, few)
        first = result.loss.item() if first is None else first
        skills.append(_skill(result.heads, {}, result.loss.item(), first))
        if skills[-1] > 1 - ENOUGH / 10 or math.isnan(skills[-1]):
            return _numbers_in(skills), STEPS_BY_HEART
    return _numbers_in(skills), len(skills)


def _numbers_in(skills: list[float]) -> list[float]:
    return [skill for skill in skills if not math.isnan(skill)] or [-math.inf]


def take_step(project: Project, model: nn.Module, optimizer: Optimizer, batch: Any) -> Result:
    """One step, as `train.py` takes it."""
    optimizer.zero_grad()
    result = project.run(model, batch)
    if not result.loss.requires_grad:
        raise Broken("the loss does not depend on the parameters: detach, .item(), .data or NumPy cut it off")
    result.loss.backward()
    if project.params.grad_clip is not None:
        nn.utils.clip_grad_norm_(model.parameters(), project.params.grad_clip)
    optimizer.step()
    return result


def _skill(heads: dict[str, Head], chances: dict[str, float], loss: float, first: float) -> float:
    """From chance (0) to certainty (1), the mean over the heads; where there is none, how much of the loss is gone."""
    skills = []
    for name, head in heads.items():
        chance = chances.get(name) or head.chance()
        if chance > 0 and head.counted.any():
            skills.append(1 - head.losses().mean().item() / chance)
    return sum(skills) / len(skills) if skills else 1 - loss / (abs(first) + 1e-12)


def train_briefly(
    project: Project,
    steps: int = STEPS,
    factor: float = 1.0,
    rate: float | None = None,
    shuffled: int = 0,
    until_known: bool = False,
) -> Course:
    """Some steps over the training batches, with the task's optimizer at `factor` times its rate, or Adam at `rate`.

    A warm-up, or a schedule that has one, is a rise over the first fifth here. `shuffled` numbers an attempt on labels
    that were handed to other examples, with other first weights.
    """
    model = project.network(shuffled)
    optimizer = _optimizer(project, model, rate)
    heights = [float(group["lr"]) * factor for group in optimizer.param_groups]
    rising = steps // 5 if rate is None and _has_warmup(project) else 0
    skills: list[float] = []
    until = time.perf_counter() + project.seconds / 15
    set_training_mode(model)
    for number, batch in enumerate(itertools.islice(itertools.cycle(project.batches["train"]), steps)):
        for group, height in zip(optimizer.param_groups, heights, strict=True):
            group["lr"] = height * min(1.0, (number + 1) / (rising + 1))
        given = _shuffled(project, model, batch, derive(shuffled, number)) if shuffled else batch
        result = take_step(project, model, optimizer, given)
        if number == 0:
            first = result.loss.item()
            chances = {name: head.chance() for name, head in _known(project, "train").items()}
        skills.append(_skill(result.heads, chances, result.loss.item(), first))
        if math.isnan(skills[-1]) or time.perf_counter() > until:
            break
        if until_known and len(skills) % LOOK_EVERY == 0 and score(project, model).is_better:
            break
        set_training_mode(model)
    return Course(model, skills)


def _optimizer(project: Project, model: nn.Module, rate: float | None) -> Optimizer:
    """The task's own, which it is asked for in any case, or Adam at a rate."""
    own = project.optimizer_of(project.task, model, project.params)
    return own if rate is None else torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)


def _has_warmup(project: Project) -> bool:
    return bool(project.params.warmup_epochs) or project.params.schedule == "onecycle"


def _shuffled(project: Project, model: nn.Module, batch: Any, seed: int) -> Any:
    with torch.no_grad():
        return with_shuffled_labels(project, batch, project.run(model, batch), seed)


def _known(project: Project, split: str) -> dict[str, Head]:
    try:
        return project.heads(split)
    except CannotJudge:
        return {}


class Score(NamedTuple):
    """What a network knows of val: how far from chance to certainty, and whether that is more than luck."""

    skill: float
    is_better: bool
    told: str
    heads: dict[str, Head]


def score(project: Project, model: nn.Module) -> Score:
    """The network on val, against the best answer that is the same for all examples."""
    results = list(project.results(model, "val"))
    heads = {name: head for name, head in _joined(results).items() if head.chance() > 0}
    if not heads:
        raise CannotJudge("outputs and labels are of no kind that is known here")
    examples = sum(project.size(result) for result in results)
    skills, better = [], []
    for head in heads.values():
        losses = head.losses()
        gain = head.chance() - losses
        error = gain.std().item() / math.sqrt(max(1, min(examples, len(gain))))
        skills.append(gain.mean().item() / head.chance())
        better.append(gain.mean().item() > stats.norm.isf(1e-3) * error)
    told = "; ".join(_told(head) for head in heads.values())
    return Score(sum(skills) / len(skills), any(better), told, heads)


def _joined(results: list[Result]) -> dict[str, Head]:
    gathered: dict[str, list[Head]] = {}
    for result in results:
        for name, head in result.heads.items():
            gathered.setdefault(name, []).append(head)
    return {name: joined(heads) for name, heads in gathered.items()}


def _told(head: Head) -> str:
    if head.kind == "classes":
        right, commonest, number = hits(head)
        return f"{right / number:.2f} of val right, chance {commonest / number:.2f}"
    skill = 1 - head.losses().mean().item() / head.chance()
    return (
        f"{max(0.0, skill):.0%} of the spread of val explained" if head.kind == "values" else f"{skill:.0%} from chance"
    )


def hits(head: Head) -> tuple[int, int, int]:
    """How many of the counted rows are right, of the commonest class, and there."""
    labels = head.labels[head.counted]
    right = int((head.outputs[head.counted].argmax(1) == labels).sum())
    return right, int(torch.bincount(labels).max()), len(labels)


def learning_holds_on_val(project: Project) -> Finding:
    """A brief training teaches something that is true of val; if not, Adam at usual rates says where the fault is."""
    course = train_briefly(project, until_known=True)
    own = score(project, course.model) if math.isfinite(course.reached) else None
    if own and own.is_better:
        return passed(f"{own.told}, after {len(course.skills)} steps")
    for rate in RATES[:2]:
        other = train_briefly(project, rate=rate, until_known=True)
        if score(project, other.model).is_better:
            seen = f"after {len(course.skills)} steps nothing is learnt that holds on val; with Adam at {rate:g} it is"
            if own is None or course.reached < -ENOUGH:
                return failed(f"{seen}; the loss went up", _smaller(project))
            return warned(seen, f'try another "optimizer" or "learning_rate" than {project.params.learning_rate:g}')
    if len(course.skills) < FEWEST_STEPS:
        raise CannotJudge(f"{counted(len(course.skills), 'step')} are all there was time for")
    seen = f"after {len(course.skills)} steps nothing is learnt that holds on val"
    return warned(seen, "do labels belong to their inputs (shuffled, sorted or joined apart)? else it needs more steps")


def _smaller(project: Project) -> str:
    return f'try a "learning_rate" of {project.params.learning_rate / 100:g}, "grad_clip": 1, or a warm-up'


def shuffled_labels_are_not_learnt(project: Project) -> Finding:
    """Trained on labels that were handed to other examples, the network knows no more of val than chance.

    Examples of one kind are guessed alike, so one such training can be lucky: only several in a row tell.
    """
    before = score(project, project.network())
    known_before = project.weights is not None or any(head.kind == "values" for head in before.heads.values())
    bound = max(0.0, before.skill if known_before else 0.0) + ENOUGH / 2
    for attempt in range(ATTEMPTS):
        course = train_briefly(project, STEPS_SHUFFLED, rate=RATES[0], shuffled=attempt + 1)
        known = score(project, course.model)
        if known.skill < bound or any(_is_luck(head) for head in known.heads.values() if head.kind == "classes"):
            if len(course.skills) < FEWEST_STEPS and not math.isnan(course.skills[-1]):
                raise CannotJudge(f"{counted(len(course.skills), 'step')} are all there was time for")
            return passed(f"{known.told}, after {len(course.skills)} steps on shuffled labels")
    seen = f"{known.told}, though the labels trained on were shuffled"
    return failed(seen, "the labels reach the network: look for them in the inputs, in `step`, or in what scores val")


def _is_luck(head: Head) -> bool:
    """Whether so many hits can be chance, were each row guessed by itself."""
    right, commonest, number = hits(head)
    share = min(commonest / number, 1 - 1e-9)
    return stats.binomtest(right, number, share, alternative="greater").pvalue > UNLIKELY
