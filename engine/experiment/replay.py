"""A finished run trained again from its record, with the code of then, in a folder of its own. Never imports torch."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import split

from engine.errors import UserError
from engine.experiment.data_files import differences, list_files
from engine.experiment.folder import Experiment
from engine.experiment.names import PARAMS
from engine.experiment.provenance import code_fingerprint, package_versions
from engine.experiment.revisions import Revision, git, revision_of
from engine.experiment.stopping import Stopped, StopRequest
from engine.files import read_json
from engine.hyperparameters import Values, load_params
from engine.wording import some

PROJECT = Path(__file__).resolve().parents[2]
CALLED = (  # as `python script`, but by the name it has where one stands: what it says to type next has to be there
    "import os, sys; __file__ = sys.argv[1]; del sys.argv[:2]; sys.path[0] = os.path.dirname(__file__); "
    "exec(compile(open(__file__, 'rb').read(), __file__, 'exec'))"
)


@dataclass(frozen=True)
class Replay:
    """What is to be trained again, and in which folder."""

    original: Experiment
    experiment: Experiment
    values: Values  # of its params.json
    revision: Revision
    script: str
    changed: tuple[str, ...]  # what is known beforehand to be other than it was

    def train(self) -> None:
        """Train in the new folder with the code of then, or go on there; ends this process as that one ends."""
        self.experiment.write_params(self.values)
        with _checked_out(self) as folder:
            print(f"Training again with commit {self.revision.commit[:12]}, until the end in {folder}", flush=True)
            script = folder / self.script
            if not script.is_file():
                raise UserError(f"{self.original.folder}: was trained by {self.script}, which git did not keep")
            name = Path(sys.argv[0]).with_name(self.script)
            _run([sys.executable, "-c", CALLED, str(script), str(name), "--model_dir", str(self.experiment.folder)])


def plan_replay(source: str, model_dir: str | None = None, data_dir: str | None = None) -> Replay:
    """What to train again: the finished run in the folder `source`, be it on data that lie elsewhere now.

    Raises `UserError` where its record is too thin.
    """
    original = Experiment(source)
    record = original.run()
    if original.stage != "finished" or "params" not in record:
        raise UserError(f"{source}: no finished run is here that could be trained again")
    revision = _known_revision(original, record)
    experiment = Experiment(model_dir or f"{Path(source)}_replay")
    values = _values(original, record) | ({"data_dir": data_dir} if data_dir else {})
    there = experiment.file(PARAMS)
    if there.is_file() and read_json(there) != values:
        raise UserError(f"{there} is there already, with other values; choose a new folder for --model_dir")
    script = Path(split(record.get("command") or "train.py")[0]).name
    changed = _changed(original, record, values.get("data_dir", ""))
    return Replay(original, experiment, values, revision, script, tuple(changed))


def _known_revision(original: Experiment, record: Values) -> Revision:
    """The code of a run. Raises `UserError` if nobody knows it, or if it changed on the way."""
    folder, latest = original.folder, original.latest_record()
    if latest.get("code") != record.get("code"):
        edited = original.edited_code(record.get("code", {}))
        raise UserError(
            f"{folder}: went on with other code than it began with ({some(edited)}), so none trains it again"
        )
    revision = revision_of(record)
    if not re.fullmatch("[0-9a-f]{7,64}", revision.commit):
        raise UserError(f"{folder}: its record names no commit, as it was trained outside of a git repository")
    if git("rev-parse", "--git-dir", folder=PROJECT) is None:
        raise UserError(f"{PROJECT}: is no git repository, or git is not there, so the code of {folder} is not known")
    if git("cat-file", "-e", f"{revision.commit}^{{commit}}", folder=PROJECT) is None:
        raise UserError(f"{folder}: its commit {revision.commit[:12]} is not in this repository; fetch it first")
    return revision


def _values(original: Experiment, record: Values) -> Values:
    """The params in effect, in the user's own words where they still say it; weights by their path, no tracker."""
    typed = {**read_json(original.file(PARAMS)), **record.get("given", {})} if original.file(PARAMS).is_file() else {}
    params = record["params"]
    if load_params(original.file(PARAMS), typed).effective() == params:
        params = {key: value for key, value in typed.items() if not key.startswith("_")}
    values = {key: value for key, value in params.items() if value is not None and key != "tracker"}
    if "init_from" in values:
        values["init_from"] = str(original.checkpoint(values["init_from"]).resolve())
    return values


def _changed(original: Experiment, record: Values, data_dir: str) -> Iterator[str]:
    """What is other than it was among data and versions, in words."""
    data = differences(record.get("data"), original.listed_data(), list_files(Path(data_dir)), data_dir)
    yield from [*data.refused, *data.told]
    now, before = {"python": platform.python_version(), **package_versions()}, record.get("versions", {})
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield f"{name} {before.get(name)} -> {now.get(name)}"


@contextmanager
def _checked_out(replay: Replay) -> Iterator[Path]:
    """The project's folder as it was, put together beside the repository."""
    revision, original = replay.revision, replay.original
    prefix = (git("rev-parse", "--show-prefix", folder=PROJECT) or "").strip()
    place = Path(tempfile.mkdtemp(prefix="replay-"))
    tree = place / PROJECT.name
    try:
        words = ("-c", f"core.hooksPath={os.devnull}", "worktree", "add", "--detach", str(tree), revision.commit)
        if git(*words, folder=PROJECT) is None:
            raise UserError(f"{original.folder}: git cannot check out its commit {revision.commit[:12]}")
        if revision.patch and git("apply", folder=tree, given=revision.patch) is None:
            raise UserError(
                f"{original.folder}: the patch in its record does not apply to commit {revision.commit[:12]}"
            )
        for name, text in revision.untracked.items():
            path = tree / prefix / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(text), encoding="utf-8")
        _check_code(original, tree / prefix)
        yield tree / prefix
    finally:
        git("worktree", "remove", "--force", str(tree), folder=PROJECT)
        shutil.rmtree(place, ignore_errors=True)


def _check_code(original: Experiment, folder: Path) -> None:
    """Raise `UserError` if what was put together is not what was trained: of what git ignores only a hash is kept."""
    record = original.run()
    if record.get("versions", {}).get("python", "").split(".")[:2] != platform.python_version().split(".")[:2]:
        return  # another Python hashes the same code otherwise
    before, now = record.get("code", {}), code_fingerprint(record["params"]["task"], folder)
    if lost := sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name)):
        raise UserError(f"{original.folder}: its record does not hold all of its code: {some(lost)}")


def _run(words: list[str]) -> None:
    """Run a program to its end; what asks this process to stop asks that one, and waits until it has saved."""
    with StopRequest():
        process = subprocess.Popen(words)
        try:
            status = process.wait()
        except Stopped as stopped:
            process.send_signal(int(stopped.code or 0) - 128)
            process.wait()
            raise
    if status:
        raise SystemExit(status if status > 0 else 128 - status)
