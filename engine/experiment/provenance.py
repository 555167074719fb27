"""Where a result comes from: command, code, versions, data. Enough to get it again, or to see why one does not."""

import ast
import contextlib
import hashlib
import os
import platform
import shlex
import sys
import time
from importlib import metadata
from pathlib import Path

from engine.experiment.revisions import git
from engine.hyperparameters import Values

# A patch that can be applied, whatever the user has configured
PLAIN_DIFF = ("--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "scikit-learn", "torchmetrics")


def provenance_of(task: str) -> Values:
    """The record of this moment, for `run.json`; the task has been imported."""
    root = _root(task)
    return {
        "command": shlex.join(sys.argv),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git": git_record(task, root),
        "versions": {"python": platform.python_version(), **package_versions()},
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "code": code_fingerprint(task, root),
    }


def package_versions() -> dict[str, str]:
    """The installed versions of the packages that results depend on."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_record(task: str, root: Path) -> Values:
    """The commit of the project in `root`, what differs from it, and the code at work that git does not know.

    That is all of the task, and of what else lies there what has been imported.
    """
    commit = git("rev-parse", "HEAD", folder=root)
    if commit is None:
        return {"commit": None}
    at_work = [f"{task.replace('.', '/')}/*.py", *_imported(root)]
    untracked = (git("ls-files", "-z", "--others", "--exclude-standard", "--", *at_work, folder=root) or "").split("\0")
    return {
        "commit": commit.strip(),
        "patch": git("diff", *PLAIN_DIFF, "HEAD", "--", "*.py", folder=root),
        "untracked": {name: (root / name).read_text(encoding="utf-8", errors="replace") for name in untracked if name},
    }


def _imported(root: Path) -> list[str]:
    """The files below `root` of which modules have been made, the script that runs among them."""
    inside, here = f"{root.absolute()}{os.sep}", os.getcwd()
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    paths = (os.path.join(here, file) for file in files if isinstance(file, str) and file.endswith(".py"))
    own = {Path(path).relative_to(inside) for path in paths if path.startswith(inside)}  # some, of thousands
    return sorted(path.as_posix() for path in own if "site-packages" not in path.parts)


def code_fingerprint(task: str, root: Path) -> dict[str, str]:
    """A hash of each Python file of the task and its subpackages, of what it means, whatever comments and layout."""
    files = sorted(root.joinpath(*task.split(".")).rglob("*.py"))
    return {path.relative_to(root).as_posix(): _meaning(path.read_bytes()) for path in files}


def code_now(task: str) -> dict[str, str]:
    """The fingerprint of a task that has been imported."""
    return code_fingerprint(task, _root(task))


def _root(task: str) -> Path:
    """The folder of the project that a task is imported from, be it the working folder or not."""
    return Path(str(sys.modules[f"{task}.net"].__file__)).absolute().parents[task.count(".") + 1]


def _meaning(source: bytes) -> str:
    with contextlib.suppress(SyntaxError, ValueError, RecursionError):  # of another Python, or no text: as it stands
        source = ast.dump(ast.parse(source)).encode()
    return hashlib.sha256(source).hexdigest()[:16]
