"""What `run.json` records of the code: enough to have it again, however git is set up on the machine."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.experiment.provenance import code_fingerprint, git_record
from tests.support import scripts

OLD, NEW = "def width():\n    return 8\n", "def width():\n    return 16\n"


def git(*words, given=None):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *words], check=True, capture_output=True, text=True, input=given).stdout


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository with one commit, in which the process is; git reads its settings from nowhere else."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    git("init", "-q")
    Path("mine").mkdir()
    Path("mine/net.py").write_text(OLD)
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    return tmp_path


SETTINGS = [
    {},
    {"diff.external": "echo"},
    {"diff.noprefix": "true"},
    {"diff.mnemonicPrefix": "true"},
    {"color.ui": "always"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: " ".join(settings) or "none")
def test_the_patch_makes_the_code_of_the_run_out_of_its_commit(project, settings):
    for name, value in settings.items():
        git("config", name, value)
    Path("mine/net.py").write_text(NEW)
    record = git_record("mine", Path())
    assert record["commit"] == git("rev-parse", "HEAD").strip()
    git("checkout", "-q", "--", ".")
    git("apply", given=record["patch"])
    assert Path("mine/net.py").read_text() == NEW


@pytest.mark.parametrize("name", ["new.py", "größe.py", "with blank.py"])
def test_files_of_the_task_that_git_does_not_know_are_kept(project, name):
    Path("mine", name).write_text(NEW)
    Path("elsewhere.py").write_text(NEW)
    assert git_record("mine", Path())["untracked"] == {f"mine/{name}": NEW}


def test_other_code_that_git_does_not_know_is_kept_where_it_is_at_work(project, monkeypatch):
    Path("at_work.py").write_text(NEW)
    Path("at_rest.py").write_text(NEW)
    monkeypatch.syspath_prepend(str(project))
    importlib.import_module("at_work")
    try:
        assert git_record("mine", project)["untracked"] == {"at_work.py": NEW}
    finally:
        del sys.modules["at_work"]


def test_without_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_record("mine", Path()) == {"commit": None}


def test_the_code_is_that_of_the_task_wherever_the_command_was_typed(points, script, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = points(num_epochs=1)
    done = script("train", "--model_dir", folder, cwd=elsewhere)
    assert done.status == 0, done.stderr
    record = json.loads((folder / "run.json").read_text())
    assert "tests/projects/points/net.py" in record["code"]
    assert record["git"]["commit"] == git_record("model", scripts.ROOT)["commit"]


def test_code_of_another_python_and_of_subpackages_has_a_fingerprint(tmp_path):
    package = tmp_path / "old"
    (package / "layers").mkdir(parents=True)
    (package / "net.py").write_text("x = 1")
    (package / "two.py").write_text("print 'Python 2'")
    (package / "latin.py").write_bytes(b"# caf\xe9\nx = 1")
    (package / "layers" / "attention.py").write_text("y = 2")
    before = code_fingerprint("old", tmp_path)
    assert set(before) == {"old/net.py", "old/two.py", "old/latin.py", "old/layers/attention.py"}
    (package / "two.py").write_text("print 'Python two'")
    (package / "net.py").write_text("x = 1  # a comment")
    (package / "layers" / "attention.py").write_text("y = 3")
    after = code_fingerprint("old", tmp_path)
    assert {name for name in before if before[name] != after[name]} == {"old/two.py", "old/layers/attention.py"}
