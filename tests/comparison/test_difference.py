"""What two experiments differ in, down to the lines of code."""

import subprocess
from pathlib import Path

import pytest

from engine.comparison.difference import difference_between, find_group
from engine.errors import UserError
from engine.experiment.provenance import git_record
from tests.support.made_runs import make_run, make_seeds

NET = "def width():\n    return 8\n"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A project under version control, in which the process is."""
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    git("init", "-q")
    commit({"mine/net.py": NET, "utils.py": "one = 1\n", "notes.txt": "a\n"})
    return tmp_path


def git(*words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *words], check=True, capture_output=True, text=True).stdout


def edit(files):
    for name, text in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)


def commit(files):
    edit(files)
    git("add", "-A")
    git("commit", "-q", "-m", "change")


def run(folder, **changes):
    return make_run(folder, git=git_record("mine", Path()), **changes)


def compare(parent, one="a", other="b"):
    return difference_between(find_group(parent, one), find_group(parent, other))


def test_params_scores_data_and_versions(tmp_path):
    make_run(tmp_path / "a", [0.5], params={"learning_rate": 0.1}, versions={"torch": "2.10", "numpy": "2"})
    data = {"files": 3, "bytes": 7, "sha256": "abc"}
    make_run(
        tmp_path / "b",
        [0.75],
        test={"accuracy": 0.5},
        versions={"torch": "2.11", "numpy": "2"},
        data=data,
        device="cuda",
    )
    lines = [line.split() for line in compare(tmp_path).splitlines()]
    assert lines[:2] == [["A", str(tmp_path / "a")], ["B", str(tmp_path / "b")]]
    for line in (
        ["learning_rate", "0.1", "0.001"],
        ["val", "accuracy", "0.5000", "0.7500", "+0.2500"],
        ["val", "loss", "0.5000", "0.2500", "-0.2500"],
        ["test", "accuracy", "0.5000"],
        ["files", "3"],
        ["torch", "2.10", "2.11"],
        ["device", "cuda"],
        ["Code:", "the", "same"],
    ):
        assert line in lines
    assert not any("numpy" in line or "batch_size" in line for line in lines)


def test_nothing(tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b")
    titles = ["Hyperparameters", "Scores", "Data", "Versions and machine", "Code"]
    assert compare(tmp_path).split("\n\n")[1:] == [f"{title}: the same" for title in titles]


def test_code_differs_between_commits_patches_and_files_that_git_does_not_know(repository):
    run(repository / "a")
    commit({"utils.py": "one = 2\n", "notes.txt": "b\n"})
    edit({"mine/net.py": NET.replace("8", "16"), "mine/new.py": "x = 1\n"})
    run(repository / "b")
    before = git("status", "--porcelain"), git("count-objects")
    text = compare(repository)
    assert (git("status", "--porcelain"), git("count-objects")) == before  # it leaves nothing in the repository
    for line in ("-    return 8", "+    return 16", "-one = 1", "+one = 2", "+++ b/mine/new.py", "+x = 1"):
        assert line in text.splitlines()
    assert "notes" not in text
    back = compare(repository, "b", "a")
    assert "-    return 16" in back.splitlines()


def test_the_same_edit_on_another_commit_is_no_difference(repository):
    edit({"mine/net.py": NET + "# a\n"})
    run(repository / "a")
    git("checkout", "-q", ".")
    commit({"mine/net.py": NET + "# a\n"})
    run(repository / "b")
    assert "Code: the same" in compare(repository)


def test_a_program_that_draws_diffs_for_people_is_not_asked(repository):
    git("config", "diff.external", "echo")
    run(repository / "a")
    commit({"mine/net.py": NET.replace("8", "16")})
    run(repository / "b")
    assert "+    return 16" in compare(repository).splitlines()


def test_a_project_in_a_folder_of_a_repository(repository, monkeypatch):
    commit({"part/mine.py": "x = 1\n"})
    (repository / "part" / "mine").mkdir()
    monkeypatch.chdir(repository / "part")
    run(repository / "a")
    edit({"mine/new.py": "y = 1\n", "mine.py": "x = 2\n"})
    run(repository / "b")
    assert "+++ b/part/mine/new.py" in compare(repository)
    assert "+x = 2" in compare(repository)


@pytest.mark.parametrize("wrong", ["0" * 40, None, "--help", 3])
def test_where_git_does_not_know_a_commit_the_records_are_compared(repository, wrong):
    record = {"commit": wrong, "patch": "+ours\n same\n", "untracked": {"mine/x.py": "x = 1"}}
    make_run(repository / "a", git=record, code={"mine/net.py": "1", "mine/x.py": "2"})
    make_run(repository / "b", git={**record, "patch": "+theirs\n same\n"}, code={"mine/net.py": "3", "mine/x.py": "2"})
    text = compare(repository)
    assert "mine/net.py: another content" in text
    assert {"-+ours", "++theirs"} <= set(text.splitlines())
    assert "mine/x.py: another" not in text
    assert "commit" not in text.split("Code:")[1]


def test_a_commit_is_never_taken_for_an_option(repository):
    for number, name in enumerate("ab"):
        make_run(repository / name, git={"commit": "--empty", "untracked": {"mine/x.py": f"x = {number}"}})
    assert "--- patch of A" in compare(repository)


def test_a_file_that_git_ignores(repository):
    commit({".gitignore": "secret.py\n"})
    for name in ("a", "b"):
        make_run(repository / name, git=git_record("mine", Path()), code={"mine/net.py": "1", "mine/secret.py": name})
    assert compare(repository).endswith("Code:\nmine/secret.py: another content")


def test_a_patch_that_does_not_fit(repository):
    run(repository / "a")
    make_run(repository / "b", git={"commit": git("rev-parse", "HEAD").strip(), "patch": "no patch"})
    assert "+no patch" in compare(repository)


def test_damaged_records(tmp_path):
    make_run(tmp_path / "a")
    (make_run(tmp_path / "b") / "run.json").write_text("{")
    text = compare(tmp_path)
    assert "Caution: B: run.json is damaged" in text
    assert text.endswith("Data, versions and code:\nnot recorded of B")  # which is not to say that they differ
    make_run(tmp_path / "b", git=3, versions=[], data="x", code=7)
    assert "Versions and machine: the same" in compare(tmp_path)
    make_run(tmp_path / "b", git={"commit": None, "patch": 3, "untracked": [1]})
    assert "Code" in compare(tmp_path)


def test_what_was_made_without_a_record_has_no_other_code(tmp_path):
    make_run(tmp_path / "b", git={"commit": "0" * 40}, data={"files": 3})
    (make_run(tmp_path / "a") / "run.json").unlink()
    text = compare(tmp_path)
    assert "Caution" not in text
    assert text.endswith("not recorded of A")
    assert "another content" not in text


def test_any_damaged_file_is_told(tmp_path):
    (make_run(tmp_path / "a") / "metrics_test_best.json").write_text("{")
    make_run(tmp_path / "b")
    assert "Caution: A: metrics_test_best.json is damaged" in compare(tmp_path)


def test_each_value_is_one_line(tmp_path):
    make_run(tmp_path / "a", params={"text": "one\ntwo", "key\n": 1})
    make_run(tmp_path / "b", params={"text": "three"})
    assert [r"text", r"one\ntwo", "three"] in [line.split() for line in compare(tmp_path).splitlines()]
    assert r"key\n" in compare(tmp_path)


def test_by_path_or_by_name(script, tmp_path):
    make_run(tmp_path / "group" / "second")
    make_run(tmp_path / "c")
    done = script("synthesize_results", "--parent_dir", tmp_path, "--diff", tmp_path / "c", "group/second")
    assert done.status == 0, done.stderr
    assert done.stdout.startswith(f"A  {tmp_path / 'c'}\nB  {tmp_path / 'group' / 'second'}\n")
    done = script("synthesize_results", "--parent_dir", tmp_path, "--diff", "c", "group/secund")
    assert (done.status, done.stderr.count("\n")) == (2, 1)
    assert 'group/second"?' in done.stderr
    with pytest.raises(UserError):
        find_group(tmp_path, "group")


def test_two_rows_of_seeds(tmp_path, script):
    make_seeds(tmp_path / "search", "rate=0.1", [0.5, 0.75, 0.7], params={"learning_rate": 0.1})
    make_seeds(tmp_path / "search", "rate=0.2", [0.9, 0.8], params={"learning_rate": 0.2}, first=5)
    done = script("synthesize_results", "--parent_dir", tmp_path, "--diff", "search/rate=0.1,seed=*", "search/*=0.2*")
    assert done.status == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    for line in (
        ["A", "rate=0.1,seed=*,", "mean", "of", "3", "runs"],
        ["B", "rate=0.2,seed=*,", "mean", "of", "2", "runs"],
        ["learning_rate", "0.1", "0.2"],
        ["val", "accuracy", "0.6500", "±", "0.1323", "0.8500", "±", "0.0707", "+0.2000"],
        ["Code:", "the", "same"],
    ):
        assert line in lines, done.stdout
    assert "seed" not in done.stdout.split("Hyperparameters")[1].split("Scores")[0]
    with pytest.raises(UserError, match=r"stands for 2 rows: rate=0.1,seed=\*, rate=0.2,seed=\*"):
        find_group(tmp_path, "search/rate*")
