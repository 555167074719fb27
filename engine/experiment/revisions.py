"""The code that runs were made with, put together again from their records, and the diff between two of them."""

import difflib
import itertools
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.hyperparameters import Values


@dataclass
class Revision:
    """The state of the code that a run was made with."""

    commit: str
    patch: str
    untracked: dict[str, str]

    def lines(self) -> list[str]:
        """What was not committed, as text to be compared."""
        files = [f"--- {name}\n{text}" for name, text in self.untracked.items()]
        return "\n".join([self.patch, *files]).splitlines()


def revision_of(run: Values) -> Revision:
    """What a record of `run.json` says of the code."""
    record = run.get("git", {})
    untracked = record.get("untracked")
    return Revision(
        commit=str(record.get("commit")),
        patch=str(record.get("patch") or ""),
        untracked=untracked if isinstance(untracked, dict) else {},
    )


def code_difference(one: Values, other: Values) -> str:
    """The unified diff between the code of two records of `run.json`: commit, patch and untracked task files.

    Where git does not know both commits, or is not there, it is the diff between what the records themselves hold;
    of files that git ignores there are only fingerprints.
    """
    return code_differences([one, other])[0, 1]


def code_differences(records: Sequence[Values]) -> dict[tuple[int, int], str]:
    """The same for each two of some records, by their places."""
    revisions = [revision_of(record) for record in records]
    with tempfile.TemporaryDirectory() as scratch:
        environment = _scratch_environment(scratch)
        trees = [_tree(revision, environment) for revision in revisions]
        found = {}
        for one, other in itertools.combinations(range(len(records)), 2):
            told = _changed_trees(trees[one], trees[other], environment)
            lines = _changed_lines(revisions[one], revisions[other]) if told is None else []
            found[one, other] = told or "\n".join([*_changed_files(records[one], records[other]), *lines])
    return found


def _changed_trees(one: str | None, other: str | None, environment: Mapping[str, str]) -> str | None:
    """What git says of two trees; None if it does not have both."""
    if not (one and other):
        return None
    words = ["diff", "--no-color", "--no-ext-diff", one, other, "--", "*.py"]
    told = git(*words, environment=environment)
    return None if told is None else told.rstrip("\n")


def _changed_files(one: Values, other: Values) -> list[str]:
    """The files of the task whose fingerprints differ."""
    a, b = one.get("code", {}), other.get("code", {})
    return [f"{file}: another content" for file in sorted(a | b) if a.get(file) != b.get(file)]


def _changed_lines(one: Revision, other: Revision) -> list[str]:
    """Which commits differ, and how what was not committed does."""
    commits = [f"commit {one.commit} -> {other.commit}"] if one.commit != other.commit else []
    return [*commits, *difflib.unified_diff(one.lines(), other.lines(), "patch of A", "patch of B", lineterm="")]


# Git


def _scratch_environment(scratch: str) -> dict[str, str]:
    """Settings with which git reads the repository around the working folder, and writes into a scratch folder."""
    objects = git("rev-parse", "--git-path", "objects") or ""
    return {
        "GIT_INDEX_FILE": os.path.join(scratch, "index"),
        "GIT_OBJECT_DIRECTORY": scratch,
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": os.path.abspath(objects.strip()),
    }


def _tree(revision: Revision, environment: Mapping[str, str]) -> str | None:
    """The name of the tree that a run was made with; None if git cannot put it together."""
    is_hash = re.fullmatch("[0-9a-f]{7,64}", revision.commit)  # and no option of git
    if not is_hash or git("read-tree", revision.commit, environment=environment) is None:
        return None
    if revision.patch and git("apply", "--cached", environment=environment, given=revision.patch) is None:
        return None
    prefix = (git("rev-parse", "--show-prefix", environment=environment) or "").strip()
    for name, text in revision.untracked.items():
        blob = (git("hash-object", "-w", "--stdin", environment=environment, given=str(text)) or "").strip()
        git("update-index", "--add", "--cacheinfo", f"100644,{blob},{prefix}{name}", environment=environment)
    return (git("write-tree", environment=environment) or "").strip() or None


def git(
    *arguments: str, folder: Path | None = None, environment: Mapping[str, str] | None = None, given: str | None = None
) -> str | None:
    """What git prints, or None where it fails, is not there, or takes longer than anybody would wait."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            input=given,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **(environment or {})},
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
