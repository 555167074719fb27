"""An experiment is a folder: what lies where in it, and how it is read and written. Never imports torch."""

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote

from engine.errors import UserError, did_you_mean, nearest
from engine.experiment.provenance import data_fingerprint, describe_data
from engine.experiment.records import latest_record
from engine.experiment.status import Status
from engine.files import read_json, replacing, without_nan, write_json
from engine.hyperparameters import AS_IT_IS_NOW, KEYS, MAY_CHANGE, Params, Values, load_params, parse_setting


class Experiment:
    """The folder of one experiment.

    >>> experiment = Experiment("experiments/base")
    >>> experiment.params().learning_rate
    0.001
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.status = Status(self.folder)
        self.given: Values = {}  # what stands in for the file's values: of the command line, now or when the run began

    def file(self, name: str) -> Path:
        """The path of a file of this experiment."""
        return self.folder / name

    def checkpoint(self, name: str) -> Path:
        """The checkpoint called `name` (`best`, `last`), or the one at the path `name`. Raises if there is none."""
        beside = Path(os.path.normpath(self.file(name)))  # `../other/best.pth.tar`, even before this folder is made
        for path in (self.file(f"{name}.pth.tar"), beside, Path(name), Path(name, "best.pth.tar")):
            if path.is_file():
                return path
        there = ", ".join(path.name.removesuffix(".pth.tar") for path in sorted(self.folder.glob("*.pth.tar")))
        raise UserError(f'{self.folder}: no checkpoint "{name}"; there: {there or "none, so train it first"}')

    # What to run

    def params(
        self,
        data_dir: str | None = None,
        restore_file: str | None = None,
        derived: Values | None = None,
        fresh: bool = False,
    ) -> Params:
        """The checked hyperparameters to train with: of `params.json`, or `derived` ones that are to become it.

        Data and start are those given here, else those given when the run began, unless it is to begin afresh.
        """
        if derived is None and not self.folder.is_dir():
            hint = did_you_mean(self.folder.name, [path.name for path in self.folder.parent.glob("*/")])
            command = f"python train.py --model_dir {quote(str(self.folder))} --from experiments/base"
            raise UserError(f"{self.folder}: no such folder{hint or f'; to make one: {command}'}")
        values = derived or read_json(self.file("params.json"))
        self.given = {} if fresh else self.latest_record().get("given", {})
        now = {"data_dir": data_dir, "init_from": restore_file}
        self.given |= {key: value for key, value in now.items() if value is not None}
        return load_params(self.file("params.json"), {**values, **self.given})

    def recorded_params(self, data_dir: str | None = None) -> Params:
        """The checked hyperparameters to evaluate with: those of the run, but for where and how it is computed."""
        recorded = self.latest_record().get("params")
        if recorded is None:
            return self.params(data_dir)
        there = load_params(self.file("params.json")).effective()
        values = {**recorded, **{key: there[key] for key in AS_IT_IS_NOW}}
        return load_params(self.file("run.json"), {**values, "data_dir": data_dir or recorded["data_dir"]})

    def warn_of_edits(self) -> None:
        """Warn, where a run is evaluated, of values in params.json that it was not trained with."""
        recorded, there = self.latest_record().get("params", {}), load_params(self.file("params.json")).effective()
        keys = (recorded.keys() & there.keys()) - MAY_CHANGE - AS_IT_IS_NOW
        if edited := sorted(key for key in keys if recorded[key] != there[key]):
            logging.warning(f"Evaluated as it was trained; params.json now has another {', '.join(edited)}")

    def derived_values(self, source: str | None, settings: Sequence[str]) -> Values | None:
        """The content of a `params.json` made from that of the experiment `source`, `key=value` settings changed.

        None without a source. Raises `UserError` if this folder has a `params.json` with another content.
        """
        if source is None:
            if settings:
                raise UserError("--set goes with --from: it changes params on their way into a new experiment")
            return None
        written = read_json(Path(source) / "params.json")
        values = {key: value for key, value in written.items() if not key.startswith("_")}  # comments are on the other
        recorded = Experiment(source).latest_record().get("params", {})
        values.update({"data_dir": recorded["data_dir"]} if "data_dir" in recorded else {})
        for key, value in map(parse_setting, settings):
            known = {*KEYS, *values}
            if key not in known and (guess := nearest(key, known, likeness=0.8)):
                raise UserError(f'--set {key}=...: nothing has that name; did you mean "{guess}"?')
            values[key] = value
        there = self.file("params.json")
        if there.is_file() and read_json(there) != values:
            raise UserError(f"{there} is there already, with other values; choose a new folder for --model_dir")
        return values

    def write_params(self, values: Values) -> None:
        """Make the folder with its `params.json`, if that is not there yet; one that is there is never written to."""
        if not self.file("params.json").is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.file("params.json"), values)

    @contextlib.contextmanager
    def derived(self, values: Values | None) -> Iterator[None]:
        """Write derived `values` as a new folder's `params.json`, and take it back if the block fails before a run."""
        there = self.folder.is_dir()
        made = values is not None and not self.file("params.json").is_file()
        if values is not None:
            self.write_params(values)
        try:
            yield
        except BaseException:
            if made and not self.file("run.json").is_file():
                self.file("params.json").unlink()
                if not there:
                    with contextlib.suppress(OSError):
                        self.folder.rmdir()
            raise

    def prepare(self, params: Params, fresh: bool) -> None:
        """Make the folder ready for a run: move an old one aside if `fresh`, else check that it can go on."""
        if fresh:
            self.set_aside()
        elif self.is_begun:
            self.check_unchanged(params)

    # How far it is

    @property
    def is_finished(self) -> bool:
        """Whether training has come to its end."""
        return self.status.read().get("state") == "finished"

    @property
    def is_begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return any(self.file(name).is_file() for name in ("last.pth.tar", "last.previous.pth.tar"))

    def check_unchanged(self, params: Params) -> None:
        """Refuse to go on with other hyperparameters or data than the run began with; warn of other code."""
        recorded = self.run()
        before, now = recorded.get("params", {}), params.effective()
        keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        changes = [f"{key} {before.get(key)} -> {now.get(key)}" for key in keys if key not in MAY_CHANGE]
        data, data_now = recorded.get("data"), data_fingerprint(Path(params.data_dir))
        if data is not None and data_now is None:
            raise UserError(
                f"{params.data_dir}: the data of {self.folder} are not here; run from the project's folder, or say "
                "with --data_dir where they are"
            )
        if data != data_now:
            changes.append(f"data in {params.data_dir}: {describe_data(data)} -> {describe_data(data_now)}")
        if changes:
            folder, another = quote(str(self.folder)), quote(f"{self.folder}_2")
            given = f" --data_dir {quote(self.given['data_dir'])}" if "data_dir" in self.given else ""
            raise UserError(
                f"{self.folder} was begun with other params or data: {', '.join(changes)}. "
                f"Either start over:  python train.py --model_dir {folder} --fresh{given}  "
                f"or make a new experiment:  python train.py --model_dir {another} --from {folder}"
            )

    def warn_of_changes(self, record: Values) -> None:
        """Warn, where a run goes on, of code that was edited and of a machine on which the last bits may differ."""
        first = self.run()
        code, code_now = self.latest_record().get("code", {}), record["code"]
        edited = sorted(file for file in code.keys() | code_now.keys() if code.get(file) != code_now.get(file))
        if edited:
            logging.warning(f"Changed since this run began: {', '.join(edited)}; it goes on with the code as it is now")
        other = [key for key in ("versions", "device", "system") if first.get(key) != record[key]]
        if other:
            changes = ", ".join(f"{first.get(key)} -> {record[key]}" for key in other)
            logging.warning(f"This run began elsewhere, so its last bits may differ: {changes}")

    def set_aside(self) -> None:
        """Move all that a run has left into `.old/1` (or 2, ...), so that the folder is as new."""
        kept = {"params.json", "search.json", "README.md", ".old", ".lock"}
        old = [path for path in self.folder.iterdir() if path.name not in kept]
        if not old:
            return
        numbers = (int(path.name) for path in self.folder.glob(".old/*") if path.name.isdigit())
        attic = self.folder / ".old" / str(max(numbers, default=0) + 1)
        attic.mkdir(parents=True)
        for path in old:
            path.rename(attic / path.name)

    # What happened

    def run(self) -> Values:
        """What `run.json` records of the run, or nothing."""
        return read_json(self.file("run.json")) if self.file("run.json").is_file() else {}

    def latest_record(self) -> Values:
        """What is on record of the latest time that the run was begun or gone on with, or nothing."""
        return latest_record(self.run())

    def begin(self, record: Values, learned: Values) -> None:
        """Record where the results come from, a continuation beside the first, and what was learned from the data."""
        record = {"given": self.given, **record}
        if self.is_begun:
            self.warn_of_changes(record)
            first = self.run()
            record = {**first, "continued": [*first.get("continued", []), record]}
        else:
            self.cut_history(0)
        write_json(self.file("run.json"), record)
        write_json(self.file("data.json"), learned)
        self.status.write("running", reason=None)

    # What came out

    def history(self) -> list[Values]:
        """The lines of `metrics.jsonl`, one per epoch; a last one that was torn off in writing is left out."""
        if not self.file("metrics.jsonl").is_file():
            return []
        rows = []
        for line in self.file("metrics.jsonl").read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                rows.append(json.loads(line))
        return rows

    def cut_history(self, epochs: int) -> None:
        """Drop the lines of epochs that the checkpoint does not know, so that none stands there twice."""
        if self.file("metrics.jsonl").is_file():
            lines = [json.dumps(row) + "\n" for row in self.history() if row["epoch"] <= epochs]
            with replacing(self.file("metrics.jsonl")) as file:
                file.write("".join(lines).encode())

    def record_epoch(self, row: Values, scores: Values, is_best: bool) -> None:
        """Add the line of an epoch to `metrics.jsonl`, and keep its validation scores as the course named them."""
        with self.file("metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(without_nan(row)) + "\n")
        write_json(self.file("metrics_val_last_weights.json"), scores)
        if is_best:
            write_json(self.file("metrics_val_best_weights.json"), scores)
            for path in self.folder.glob("metrics_*_best.json"):  # of the best before: this one is yet to be evaluated
                path.unlink()

    def record_evaluation(self, split: str, checkpoint: Path, data_dir: str, scores: Values) -> None:
        """Record a look at a split with its scores; those on other data than the run's get no file of their own."""
        name, record = checkpoint.name.removesuffix(".pth.tar"), self.run()
        look = {"split": split, "checkpoint": name, "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "scores": scores}
        if data_dir != self.latest_record().get("params", {}).get("data_dir", data_dir) and data_fingerprint(
            Path(data_dir)
        ) != record.get("data"):
            look["data_dir"] = data_dir
            logging.info(f"The scores on {data_dir}, other data than this run's, are in run.json alone")
        elif scores:
            write_json(self.file(f"metrics_{split}_{name}.json"), scores)
        write_json(self.file("run.json"), {**record, "evaluations": [*record.get("evaluations", []), look]})

    def best_scores(self) -> Values:
        """The validation scores of the best epoch, or nothing."""
        path = self.file("metrics_val_best_weights.json")
        return read_json(path) if path.is_file() else {}

    def test_scores(self) -> Values:
        """The test scores of the best checkpoint, or nothing if nobody has looked yet."""
        path = self.file("metrics_test_best.json")
        return read_json(path) if path.is_file() else {}

    def farewell(self) -> str:
        """What to say when training is over: the best scores, and what one would type next."""
        scores = ", ".join(f"{name} {value:.4g}" for name, value in self.best_scores().items() if value is not None)
        status = self.status.read()
        folder, longer = quote(str(self.folder)), quote(f"{self.folder}_longer")
        return (
            f"{self.folder} is finished: {status.get('epoch')} epochs, best on val: {scores}\n"
            f"Next: look at it     tensorboard --logdir {folder}\n"
            f"      test it        python evaluate.py --model_dir {folder}\n"
            f"      train longer   python train.py --model_dir {longer} --from {folder} "
            f"--set num_epochs={2 * self.run()['params']['num_epochs']}"
        )
