"""What is to be done with the folder of an experiment: decided once, from plain words, before torch is imported."""

import contextlib
import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from engine.errors import UserError, command, did_you_mean, slip
from engine.experiment.data_files import Differences, differences, list_files
from engine.experiment.declarations import read_declarations
from engine.experiment.folder import Experiment
from engine.experiment.monitor import check_monitor
from engine.experiment.names import PARAMS, RUN
from engine.files import is_text, read_json
from engine.hyperparameters import AS_IT_IS_NOW, DEFAULTS, KEYS, MAY_CHANGE, Params, Values, load_params, parse_setting
from engine.wording import counted, score_line


@dataclass(frozen=True)
class Plan:
    """What training is to do with a folder, and from what; whoever trains reads it here."""

    experiment: Experiment
    params: Params
    stage: str  # of the folder, as it was found
    given: Values  # what stands in for values of params.json: said on the command line, now or when the run began
    weights: Path | None = None  # to start from
    is_fresh: bool = False  # to begin again: what is there moves into .old as soon as the first step has worked
    to_write: Values | None = None  # what params.json is to hold, where it is derived from another experiment's
    warnings: tuple[str, ...] = ()
    only_checks: bool = False  # to look for faults of the task as it would begin, and leave the folder as it is

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.stage == "finished" and not self.is_fresh

    @property
    def goes_on(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self.stage == "begun" and not self.is_fresh


def plan_training(
    model_dir: str | Path,
    data_dir: str | None = None,
    restore_file: str | None = None,
    fresh: bool = False,
    source: str | None = None,
    settings: Sequence[str] = (),
    only_checks: bool = False,
) -> Plan:
    """What to do with the folder `model_dir`: begin, go on, or nothing, as it is finished. Raises `UserError`.

    `data_dir` and `restore_file` stand in for `data_dir` and `init_from` of its params. With a `source`, its params are
    made from those of that experiment, `settings` (key=value) changed.
    """
    experiment = Experiment(model_dir)
    if not is_text(str(experiment.folder)):
        raise UserError(f"{experiment.folder}: is not UTF-8 text, which TensorBoard needs; choose another --model_dir")
    to_write = _derived_values(experiment, source, settings)
    if to_write is None:
        _check_folder(experiment.folder)
    stage, fresh = experiment.stage, fresh or only_checks
    begins = fresh or stage == "new"
    given = {} if fresh else experiment.latest_record().get("given", {})
    if not fresh:
        _check_origin(experiment, restore_file, given)
    now = {"data_dir": data_dir, "init_from": restore_file}
    given = given | {key: value for key, value in now.items() if value is not None}
    values = to_write or read_json(experiment.file(PARAMS))
    params = load_params(experiment.file(PARAMS), {**values, **given})
    check_monitor(params.monitor, params.mode)
    if not only_checks and (begins or stage != "finished"):
        check_tracker(params.tracker)
    if not begins:
        warnings = check_unchanged(experiment, params, given)
        return Plan(experiment, params, stage, given, warnings=tuple(warnings))
    weights = experiment.checkpoint(params.init_from) if params.init_from else None
    if weights is not None and fresh and weights.parent == experiment.folder:  # where they will be when all has moved
        given["init_from"] = (experiment.attic.relative_to(experiment.folder) / weights.name).as_posix()
        params = load_params(experiment.file(PARAMS), {**values, **given})
    return Plan(experiment, params, stage, given, weights, fresh, to_write, only_checks=only_checks)


@contextlib.contextmanager
def held(plan: Plan) -> Iterator[None]:
    """Keep the folder for this process alone, with its `params.json`, which goes again if the run does not begin."""
    with _written(plan.experiment, plan.to_write), plan.experiment.status.held():
        if plan.experiment.stage != plan.stage:
            raise UserError(f"{plan.experiment.folder}: another process has trained here just now; run this again")
        yield


def check_unchanged(experiment: Experiment, params: Params, given: Values) -> list[str]:
    """Refuse to go on with other hyperparameters or data than the run began with. Returns what is only to be told."""
    recorded = experiment.run()
    before, now = recorded.get("params", {}), params.effective()
    before = DEFAULTS | before  # a key of a later version was, before there was such a thing, what it is by default
    keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    changes = [f"{key} {before.get(key)} -> {now.get(key)}" for key in keys if key not in MAY_CHANGE]
    if recorded.get("data") is not None and not Path(params.data_dir).exists():
        raise UserError(
            f"{params.data_dir}: the data of {experiment.folder} are not here; run from the project's folder, or say "
            "with --data_dir where they are"
        )
    data = _data_differences(experiment, params.data_dir)
    changes += data.refused
    if changes:
        folder = str(experiment.folder)
        told = ("--data_dir", given["data_dir"]) if "data_dir" in given else ()
        raise UserError(
            f"{folder} was begun with other params or data: {', '.join(changes)}. "
            f"Either start over:  {command('train', '--model_dir', folder, '--fresh', *told)}  "
            f"or make a new experiment:  {command('train', '--model_dir', f'{folder}_2', '--from', folder)}"
        )
    return data.told


def _data_differences(experiment: Experiment, data_dir: str) -> Differences:
    return differences(experiment.run().get("data"), experiment.listed_data(), list_files(Path(data_dir)), data_dir)


def farewell(plan: Plan) -> str:
    """What to say when training is over: the best scores, and what one would type next."""
    folder, epoch = str(plan.experiment.folder), plan.experiment.status.read().get("epoch", 0)
    scores, num_epochs = score_line(plan.experiment.best_scores()), plan.params.num_epochs
    done = f"{folder} is finished: {_end(plan, epoch)}"
    if not scores:
        return _farewell_without_best(plan, done)
    longer = command(
        "train", "--model_dir", f"{folder}_longer", "--from", folder, "--set", f"num_epochs={2 * num_epochs}"
    )
    lines = [
        f"{done}, best on val: {scores}",
        f"Next: look at it     tensorboard --logdir {quote(folder)}",
        f"      test it        {command('evaluate', '--model_dir', folder)}",
    ]
    return "\n".join(lines if _is_early(plan, epoch) else [*lines, f"      train longer   {longer}"])


def _is_early(plan: Plan, epoch: int) -> bool:
    """Whether a run has ended before its last epoch, for want of patience: more epochs would change nothing."""
    return plan.params.patience is not None and epoch < plan.params.num_epochs


def _end(plan: Plan, epoch: int) -> str:
    """After which epoch a run has ended, and where it stopped early, why."""
    if not _is_early(plan, epoch):
        return counted(epoch, "epoch")
    monitor = plan.experiment.latest_record().get("monitor", "the score that decides")
    why = f"{monitor} was no better for {counted(plan.params.patience, 'epoch')}"
    return f"stopped early after epoch {epoch} of {plan.params.num_epochs}, as {why}"


def _farewell_without_best(plan: Plan, done: str) -> str:
    """The same where the score that decides never was a number, so that only the last checkpoint can be tested."""
    folder, monitor = str(plan.experiment.folder), plan.experiment.latest_record().get("monitor", "loss")
    settings = ("--set", "monitor=loss", "--set", "mode=min")
    lines = [
        f"{done}, and val {monitor} was a number in none of them, so that no checkpoint is the best",
        f"Next: look at it     tensorboard --logdir {quote(folder)}",
        f"      test the last  {command('evaluate', '--model_dir', folder, '--restore_file', 'last')}",
    ]
    if monitor != "loss":
        another = command("train", "--model_dir", f"{folder}_by_loss", "--from", folder, *settings)
        lines.append(f"      watch the loss {another}")
    return "\n".join(lines)


def check_tracker(name: str | None) -> None:
    """Refuse a tracker whose package is not installed; a folder of its name, as W&B leaves them, is no package."""
    if name is not None:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            raise UserError(f'"tracker": "{name}" is not installed: pip install -r requirements-trackers.txt')


def _check_folder(folder: Path) -> None:
    """Refuse a folder that is not there, and what is none."""
    if folder.is_file():
        raise UserError(f"{folder}: is a file; --model_dir is the folder of an experiment: {folder.parent}")
    if folder.is_dir():
        return
    hint = did_you_mean(folder.name, [path.name for path in folder.parent.glob("*/")])
    base = Path("experiments/base")
    if (base / PARAMS).is_file() and base != folder:
        hint = hint or f"; to make one: {command('train', '--model_dir', folder, '--from', base)}"
    raise UserError(f"{folder}: no such folder{hint or '; make it, with a params.json in it'}")


def _check_origin(experiment: Experiment, restore_file: str | None, given: Values) -> None:
    """Refuse checkpoints that no run of this engine has left, and another start for a run that has one."""
    folder = experiment.folder
    if experiment.has_checkpoints and not experiment.run():
        raise UserError(
            f"{folder}: its checkpoints were not written here, so that no run can go on from them; to start from their "
            f"weights:  {command('train', '--model_dir', folder, '--fresh', '--restore_file', 'best')}"
        )
    if experiment.stage != "new" and restore_file not in (None, given.get("init_from")):
        raise UserError(
            f"{folder} was begun, and --restore_file says where a run starts; start over:  "
            f"{command('train', '--model_dir', folder, '--fresh', '--restore_file', restore_file)}"
        )


def _derived_values(experiment: Experiment, source: str | None, settings: Sequence[str]) -> Values | None:
    """The content of a `params.json` made from that of the experiment `source`, `key=value` settings changed.

    None without a source. Raises `UserError` if the folder has a `params.json` with another content.
    """
    if source is None:
        if settings:
            raise UserError("--set goes with --from: it changes params on their way into a new experiment")
        return None
    if Path(source).is_file():
        raise UserError(f"--from {source}: is a file; name the folder that it is in: --from {Path(source).parent}")
    written = read_json(Path(source) / PARAMS)
    values = {key: value for key, value in written.items() if not key.startswith("_")}  # comments are on the other
    recorded = Experiment(source).latest_record().get("params", {})
    values.update({"data_dir": recorded["data_dir"]} if "data_dir" in recorded else {})
    changes = dict(map(parse_setting, settings))
    declared = read_declarations(str(changes.get("task", values.get("task", KEYS["task"].default))))
    for key in changes:
        known = {*KEYS, *values, *declared.keys}
        if key not in known | declared.names and (meant := slip(key, known)):
            raise UserError(f'--set {key}=...: nothing has that name; did you mean "{meant}"?')
    values |= changes
    there = experiment.file(PARAMS)
    if there.is_file() and read_json(there) != values:
        raise UserError(f"{there} is there already, with other values; choose a new folder for --model_dir")
    return values


@contextlib.contextmanager
def _written(experiment: Experiment, values: Values | None) -> Iterator[None]:
    """Write derived `values` as a new folder's `params.json`, and take it back if the block fails before a run."""
    there, file = experiment.folder.is_dir(), experiment.file(PARAMS)
    made = values is not None and not file.is_file()
    if values is not None:
        experiment.write_params(values)
    try:
        yield
    except BaseException:
        if made and not experiment.file(RUN).is_file():
            file.unlink(missing_ok=True)
            if not there:
                with contextlib.suppress(OSError):
                    experiment.folder.rmdir()
        raise


@dataclass(frozen=True)
class Evaluation:
    """A look at a split: with which checkpoint of an experiment, on which data, and what its files are called."""

    experiment: Experiment
    params: Params
    checkpoint: Path
    split: str
    tag: str  # "best" for the experiment's own best on its own data; all else has another, and never stands in its row
    is_on_other_data: bool

    @property
    def name(self) -> str:
        """What its predictions and pictures are called by: the split, with the tag where it is not the plain look."""
        return self.split if self.tag == "best" else f"{self.split}_{self.tag}"

    @property
    def look(self) -> Values:
        """What is recorded of the look, beside its scores."""
        name = os.path.relpath(self.checkpoint, self.experiment.folder).removesuffix(".pth.tar")
        return {"checkpoint": name} | ({"data_dir": self.params.data_dir} if self.is_on_other_data else {})


def plan_evaluation(
    model_dir: str | Path,
    split: str = "test",
    restore_file: str = "best",
    data_dir: str | None = None,
    max_batches: int | None = None,
) -> Evaluation:
    """What to evaluate: the checkpoint `restore_file` of the experiment in a folder, with the params of its run.

    Params of where and how it is computed are those of today, and the whole split is taken but for `max_batches`, which
    are a look of another name. Raises `UserError` if there is no such checkpoint.
    """
    experiment = Experiment(model_dir)
    _check_folder(experiment.folder)
    params = load_params(experiment.file(PARAMS))
    record = experiment.latest_record()
    recorded = {**DEFAULTS, **record["params"]} if "params" in record else params.effective()
    now = {key: params.effective()[key] for key in AS_IT_IS_NOW} | {
        "data_dir": data_dir or recorded["data_dir"],
        "max_eval_batches": max_batches,
    }
    params = load_params(experiment.file(RUN if "params" in record else PARAMS), {**recorded, **now})
    checkpoint = experiment.checkpoint(restore_file)
    is_on_other_data = False
    if data_dir is not None and data_dir != recorded["data_dir"]:
        is_on_other_data = bool(_data_differences(experiment, data_dir).refused)
    tag = _as_name(os.path.relpath(checkpoint, experiment.folder).removesuffix(".pth.tar"))
    if is_on_other_data:
        tag += f"_on_{_as_name(str(data_dir))}"
    if max_batches is not None:
        tag += f"_{counted(max_batches, 'batch').replace(' ', '_')}"
    return Evaluation(experiment, params, checkpoint, split, tag, is_on_other_data)


def _as_name(path: str) -> str:
    """A path as a part of a file's name."""
    return "_".join(re.findall(r"[\w=,+-]+", path.replace(os.sep, "/"))) or "_"
