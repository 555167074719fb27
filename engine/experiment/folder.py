"""An experiment is a folder: what lies where in it, and how it is read and written. Never imports torch."""

import json
import logging
import os
import time
from pathlib import Path

from engine.errors import DiskError, UserError
from engine.experiment.data_files import DataFile, read_listed
from engine.experiment.names import (
    BEST,
    BEST_SCORES,
    DATA,
    DATA_FILES,
    HISTORY,
    LAST,
    LAST_SCORES,
    LOCK,
    OLD,
    PARAMS,
    PREVIOUS,
    README,
    RUN,
    SEARCH,
)
from engine.experiment.records import latest_record, read_object, read_rows
from engine.experiment.status import Status
from engine.files import read_json, replacing, without_nan, write_json
from engine.hyperparameters import AS_IT_IS_NOW, MAY_CHANGE, Params, Values, load_params

RECORDED: Values = {  # what is of which kind in run.json
    **dict.fromkeys(("params", "given", "data", "code", "git", "versions", "overruled", "tracker"), dict),
    **dict.fromkeys(("continued", "evaluations"), list),
}
CHECKPOINTS = (LAST, PREVIOUS)  # from which a run can go on


class Experiment:
    """The folder of one experiment.

    >>> experiment = Experiment("experiments/base")
    >>> experiment.params().learning_rate
    0.001
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.status = Status(self.folder)

    def __reduce__(self) -> tuple[type["Experiment"], tuple[Path]]:
        return Experiment, (self.folder,)  # another process has a status of its own

    def file(self, name: str) -> Path:
        """The path of a file of this experiment."""
        return self.folder / name

    def checkpoint(self, name: str) -> Path:
        """The checkpoint called `name` (`best`, `last`), or the one at the path `name`. Raises if there is none."""
        beside = Path(os.path.normpath(self.file(name)))  # `../other/best.pth.tar`, even before this folder is made
        for path in (self.file(f"{name}.pth.tar"), beside, Path(name), Path(name, BEST)):
            if path.is_file():
                return path
        there = ", ".join(path.name.removesuffix(".pth.tar") for path in sorted(self.folder.glob("*.pth.tar")))
        raise UserError(f'{self.folder}: no checkpoint "{name}"; there: {there or "none, so train it first"}')

    # What to run

    def params(self) -> Params:
        """The checked hyperparameters to train with: of `params.json`, and what was given when the run began."""
        given = self.latest_record().get("given", {})
        return load_params(self.file(PARAMS), {**read_json(self.file(PARAMS)), **given})

    def edited_code(self, code: dict[str, str]) -> list[str]:
        """The files of the task's code that are others than when the run was last begun or gone on with."""
        before = self.latest_record().get("code", code)
        return sorted(file for file in before.keys() | code.keys() if before.get(file) != code.get(file))

    def warn_of_edits(self) -> None:
        """Warn, where a run is evaluated, of values in params.json that it was not trained with."""
        recorded, there = self.latest_record().get("params", {}), load_params(self.file(PARAMS)).effective()
        keys = (recorded.keys() & there.keys()) - MAY_CHANGE - AS_IT_IS_NOW - {"max_eval_batches"}
        if edited := sorted(key for key in keys if recorded[key] != there[key]):
            logging.warning(f"Evaluated as it was trained; params.json now has another {', '.join(edited)}")

    def write_params(self, values: Values) -> None:
        """Make the folder with its `params.json`, if that is not there yet; one that is there is never written to."""
        if not self.file(PARAMS).is_file():
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:  # of a file that is in the way, a link to nothing, a disk that is full
                raise DiskError(f"{self.folder}: no folder can be made here ({error.strerror})") from None
            write_json(self.file(PARAMS), values)

    # How far it is

    @property
    def stage(self) -> str:
        """`finished`, `begun` where there is a checkpoint to go on from, or `new`."""
        if self.status.read().get("state") == "finished":
            return "finished"
        return "begun" if any(self.file(name).is_file() for name in CHECKPOINTS) else "new"

    @property
    def has_checkpoints(self) -> bool:
        """Whether there are any, a best one alone among them: what a run would write over."""
        return any(self.file(name).is_file() for name in (BEST, *CHECKPOINTS))

    def check_own(self, checkpoint: Path, run: str | None) -> None:
        """Raise `UserError` for a checkpoint in the folder that another `run` has written: it was copied over ours.

        Those of runs before there were such names have none, and are taken as they are.
        """
        own = self.latest_record().get("run")
        if checkpoint.absolute().parent == self.folder.absolute() and None not in (own, run) and run != own:
            raise UserError(
                f"{checkpoint}: is of another run than this folder's, copied over its own; to score that run, name its "
                "checkpoint where it was written with --restore_file, or its folder with --model_dir"
            )

    def warn_of_changes(self, record: Values) -> None:
        """Warn, where a run goes on, of code that was edited and of a machine on which the last bits may differ."""
        first = self.run()
        if edited := self.edited_code(record["code"]):
            logging.warning(f"Changed since this run began: {', '.join(edited)}; it goes on with the code as it is now")
        other = [key for key in ("versions", "device", "system", "processes") if first.get(key, 1) != record[key]]
        if other:
            changes = ", ".join(
                f"{first.get(key, 1)} -> {record[key]}{' processes' * (key == 'processes')}" for key in other
            )
            logging.warning(f"This run began elsewhere, so its last bits may differ: {changes}")

    @property
    def attic(self) -> Path:
        """Where the run that is there would move: `.old/1`, or 2, ..."""
        numbers = (int(path.name) for path in self.folder.glob(".old/*") if path.name.isdigit())
        return self.folder / OLD / str(max(numbers, default=0) + 1)

    def set_aside(self) -> None:
        """Move all that a run has left into the attic, its checkpoints first, so that the folder is as new."""
        kept = {PARAMS, SEARCH, README, OLD, LOCK}
        old = [path for path in self.folder.iterdir() if path.name not in kept]
        attic = self.attic
        if old:
            attic.mkdir(parents=True)
        for path in sorted(old, key=lambda path: path.name not in CHECKPOINTS):
            path.rename(attic / path.name)

    # What happened

    def run(self) -> Values:
        """What `run.json` records of the run, or nothing; what in it is of another kind than we write is left out."""
        said = read_json(self.file(RUN)) if self.file(RUN).is_file() else {}
        return {key: value for key, value in said.items() if isinstance(value, RECORDED.get(key, object))}

    def latest_record(self) -> Values:
        """What is on record of the latest time that the run was begun or gone on with, or nothing."""
        return latest_record(self.run())

    def listed_data(self) -> dict[str, DataFile]:
        """The files of the data that the run began with, where they are not too many."""
        return read_listed(self.file(DATA_FILES))

    def begin(self, record: Values, learned: Values, listed_data: Values) -> None:
        """Record where the results come from, a continuation beside the first, and what was learned from the data."""
        if self.stage == "begun":
            self.warn_of_changes(record)
            first = self.run()
            record = {**first, "continued": [*first.get("continued", []), record]}
        else:
            self.cut_history(0)
            if listed_data:
                write_json(self.file(DATA_FILES), listed_data)
        write_json(self.file(RUN), record)
        write_json(self.file(DATA), learned)
        self.status.write("running", reason=None)

    # What came out

    def history(self) -> list[Values]:
        """The lines of `metrics.jsonl`, one per epoch; a last one that was torn off in writing is left out."""
        if not self.file(HISTORY).is_file():
            return []
        return [row for row in read_rows(self.file(HISTORY), []) if isinstance(row.get("epoch"), int)]

    def cut_history(self, epochs: int) -> None:
        """Drop the lines of epochs that the checkpoint does not know, so that none stands there twice."""
        if self.file(HISTORY).is_file():
            lines = [json.dumps(row) + "\n" for row in self.history() if row["epoch"] <= epochs]
            with replacing(self.file(HISTORY)) as file:
                file.write("".join(lines).encode())

    def check_there(self) -> None:
        """Raise `UserError` if the folder has gone away under the run: nothing in it is to be made anew."""
        if not self.file(RUN).is_file():
            raise UserError(
                f"{self.folder}: is gone, so nothing more can be saved; if it was only moved, the same command goes on "
                "with --model_dir where it is now"
            )

    def record_epoch(self, row: Values, scores: Values, is_best: bool) -> None:
        """Add the line of an epoch to `metrics.jsonl`, and keep its validation scores as the course named them."""
        with self.file(HISTORY).open("a", encoding="utf-8") as file:
            file.write(json.dumps(without_nan(row)) + "\n")
        write_json(self.file(LAST_SCORES), scores)
        if is_best:
            write_json(self.file(BEST_SCORES), scores)
            for path in self.folder.glob("metrics_*_best.json"):  # of the best before: this one is yet to be evaluated
                path.unlink()

    def record_evaluation(self, split: str, tag: str, look: Values) -> None:
        """Record a look at a split, and keep its scores in a file that has the tag of the checkpoint and data."""
        look = {"split": split, "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **look}
        if look["scores"]:
            write_json(self.file(f"metrics_{split}_{tag}.json"), look["scores"])
        record = self.run()
        write_json(self.file(RUN), {**record, "evaluations": [*record.get("evaluations", []), look]})

    def best_scores(self) -> Values:
        """The validation scores of the best epoch that are numbers, or nothing."""
        path = self.file(BEST_SCORES)
        scores = read_object(path, []) if path.is_file() else {}
        return {name: score for name, score in scores.items() if isinstance(score, int | float)}
