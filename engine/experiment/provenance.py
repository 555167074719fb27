"""Where a result comes from: command, code, versions, data. Enough to get it again, or to see why one does not."""

import ast
import hashlib
import os
import platform
import shlex
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

from engine.hyperparameters import Values

# A patch that can be applied, whatever the user has configured
PLAIN_DIFF = ("--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "scikit-learn", "torchmetrics")


def provenance_of(task: str, data_dir: Path) -> Values:
    """The record of this moment, for `run.json`; the task is imported, be it from the working folder or not."""
    root = Path(str(sys.modules[f"{task}.net"].__file__)).absolute().parents[task.count(".") + 1]
    return {
        "command": shlex.join(sys.argv),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git": git_record(task, root),
        "versions": {"python": platform.python_version(), **package_versions()},
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "code": code_fingerprint(task, root),
        "data": data_fingerprint(data_dir),
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
    """The commit of the project in `root`, what differs from it, and the files of the task that git does not know."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {"commit": None}
    folder = task.replace(".", "/")
    untracked = (_git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", f"{folder}/*.py") or "").split(
        "\0"
    )
    return {
        "commit": commit.strip(),
        "patch": _git(root, "diff", *PLAIN_DIFF, "HEAD", "--", "*.py"),
        "untracked": {name: (root / name).read_text(encoding="utf-8", errors="replace") for name in untracked if name},
    }


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints, or None where there is no git, no repository or no commit."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, errors="replace", timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def code_fingerprint(task: str, root: Path) -> dict[str, str]:
    """A hash of each Python file of the task, of what it means: comments and layout do not count."""
    files = sorted(root.joinpath(*task.split(".")).glob("*.py"))
    return {path.relative_to(root).as_posix(): _meaning(path.read_text(encoding="utf-8")) for path in files}


def _meaning(source: str) -> str:
    return hashlib.sha256(ast.dump(ast.parse(source)).encode()).hexdigest()[:16]


def describe_data(fingerprint: Values | None) -> str:
    """A fingerprint in words."""
    return f"{fingerprint['files']} files, {fingerprint['bytes']} bytes" if fingerprint else "none"


def data_fingerprint(data_dir: Path) -> Values | None:
    """How many files the data has, of how many bytes, and a hash of their relative names and sizes."""
    if not data_dir.is_dir():
        return None
    files = sorted(_sizes(data_dir, ""))
    digest = hashlib.sha256(repr(files).encode()).hexdigest()
    return {"files": len(files), "bytes": sum(size for _, size in files), "sha256": digest}


def data_changes(data_dir: str, before: Values | None, now: Values | None) -> list[str]:
    """What differs between two fingerprints, in words."""
    return [] if before == now else [f"data in {data_dir}: {describe_data(before)} -> {describe_data(now)}"]


def _sizes(folder: Path | str, prefix: str) -> list[tuple[str, int]]:
    """Relative name and size of each file below a folder; hidden ones, such as our own cache, left out."""
    files: list[tuple[str, int]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                files += _sizes(entry.path, f"{prefix}{entry.name}/")
            else:
                size = entry.stat().st_size if os.path.exists(entry.path) else -1  # a link to nothing
                files.append((prefix + entry.name, size))
    return files
