"""All checks, one after the other, and what is told of them."""

from collections import Counter
from collections.abc import Callable, Iterator

from engine.check.batches import (
    batch_passes,
    columns_vary,
    inputs_are_normalised,
    loss_takes_shapes_as_meant,
    numbers_are_finite,
)
from engine.check.finding import CannotJudge, Finding
from engine.check.labels import (
    classes_are_balanced,
    classes_are_in_each_split,
    labels_fit_outputs,
    values_are_scaled,
)
from engine.check.learning import (
    first_loss_is_near_chance,
    learning_holds_on_val,
    one_batch_is_learnt_by_heart,
    shuffled_labels_are_not_learnt,
)
from engine.check.metrics import (
    metrics_are_means,
)
from engine.check.network import (
    batches_of_one_train,
    evaluation_repeats,
    examples_are_judged_alone,
    gradients_reach_all,
    inputs_have_influence,
    no_layer_is_half_frozen,
    optimizer_holds_all,
    outputs_depend_on_inputs,
    outputs_do_not_know_labels,
    step_only_computes,
    units_fire,
)
from engine.check.outputs import (
    loss_adds_up,
    loss_fits_outputs,
    normalised_over_classes,
    outputs_reach_labels,
)
from engine.check.project import Broken, Forward, OptimizerOf, Project
from engine.check.rates import (
    learning_rate_is_borne,
)
from engine.check.speed import (
    memory_suffices,
    time_is_spent_on_training,
)
from engine.check.splits import (
    no_example_is_in_two_splits,
    no_picture_has_a_near_copy,
    splits_are_drawn_alike,
)
from engine.errors import UserError
from engine.experiment import Plan
from engine.randomness import seed_everything
from engine.training import device_for, fetch_batches, load_task

Check = Callable[[Project], Finding]

CHECKS: tuple[Check, ...] = (
    batch_passes,
    numbers_are_finite,
    inputs_are_normalised,
    columns_vary,
    loss_takes_shapes_as_meant,
    labels_fit_outputs,
    classes_are_in_each_split,
    classes_are_balanced,
    values_are_scaled,
    outputs_reach_labels,
    loss_fits_outputs,
    normalised_over_classes,
    loss_adds_up,
    gradients_reach_all,
    no_layer_is_half_frozen,
    optimizer_holds_all,
    step_only_computes,
    outputs_depend_on_inputs,
    units_fire,
    inputs_have_influence,
    outputs_do_not_know_labels,
    evaluation_repeats,
    examples_are_judged_alone,
    batches_of_one_train,
    first_loss_is_near_chance,
    one_batch_is_learnt_by_heart,
    learning_holds_on_val,
    shuffled_labels_are_not_learnt,
    learning_rate_is_borne,
    metrics_are_means,
    splits_are_drawn_alike,
    no_example_is_in_two_splits,
    no_picture_has_a_near_copy,
    time_is_spent_on_training,
    memory_suffices,
)


def examine(project: Project, checks: tuple[Check, ...] = CHECKS) -> Iterator[tuple[str, Finding]]:
    """The name of each check with what it found; where no batch passes at all, nothing else is asked."""
    for check in checks:
        seed_everything(project.params.seed)
        finding = judge(check, project)
        yield check.__name__.replace("_", " "), finding
        if check is batch_passes and finding.verdict != "passed":
            return


def judge(check: Check, project: Project) -> Finding:
    """What a check found; an error in the project's own code is a finding, too."""
    try:
        return check(project)
    except CannotJudge as reason:
        return Finding("not judged", str(reason))
    except (Broken, UserError) as error:
        return Finding("failed", str(error), "mend this first")


class ChecksFailed(UserError):
    """Something is wrong with the task; every line of it has been told."""

    status = 1


def check_project(plan: Plan, forward: Forward, optimizer_of: OptimizerOf) -> None:
    """Examine the task of an experiment and print a line for each check; raises `ChecksFailed` if one has failed."""
    params = plan.params
    device = device_for(params)
    task = load_task(params.task, params)
    loaders = fetch_batches(task, ["train", "val"], params, device)
    project = Project(task, params, device, loaders, forward, optimizer_of, plan.weights, plan.experiment.folder)
    project.gather()
    findings = {}
    for name, finding in examine(project):
        findings[name] = finding
        advice = f" -> {finding.advice}" if finding.advice else ""
        print(f"{finding.verdict:<11}{name}: {finding.seen}{advice}", flush=True)
    counts = Counter(finding.verdict for finding in findings.values())
    print(", ".join(f"{number} {verdict}" for verdict, number in counts.most_common()))
    if counts["failed"]:
        raise ChecksFailed(f"{counts['failed']} of {len(findings)} checks failed; each line above says what to do")
