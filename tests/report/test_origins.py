"""What the report says of where results come from: warnings, damaged files, patches, looks at the test split."""

import pytest

from engine.report.facts import LONGEST_TEXT
from tests.support.reports import RECORD, column, content_of, make, report


def titles(content):
    return [warning["title"] for warning in content["warnings"]]


def test_equal_experiments_give_no_warning(tmp_path):
    make(tmp_path / "one", [0.5])
    make(tmp_path / "two", [0.6], {"learning_rate": 0.1})
    content = content_of(tmp_path)
    assert content["warnings"] == []
    assert not {"code", "data", "versions"} & {one["title"] for one in content["columns"]}


OTHER = {
    "code": ({"model/net.py": "9999", "model/data_loader.py": "2222"}, "2 versions of the task's code.", "net.py 9999"),
    "data": ({"files": 13, "bytes": 9, "sha256": "cd" * 32}, "2 sets of data.", "13 files, 9 bytes"),
    "versions": ({"python": "3.11.7", "torch": "2.16.0"}, "2 sets of package versions.", "torch 2.16.0"),
}


@pytest.mark.parametrize("kind", OTHER)
def test_other_code_data_or_versions_are_a_warning_and_a_column(kind, tmp_path):
    other, title, told = OTHER[kind]
    for name in ("one", "two"):
        make(tmp_path / name, [0.5], {"name": name})
    make(tmp_path / "three", [0.6], {"name": "three"}, **{kind: other})
    content = content_of(tmp_path)
    assert titles(content) == [title]
    first, second = content["warnings"][0]["items"]
    assert first.startswith("A: ")
    assert first.endswith("in 2: one, two")
    assert told in second
    assert second.endswith("in 1: three")
    assert "python" not in second
    assert column(content, kind) == {"one": "A", "two": "A", "three": "B"}


def test_code_that_changed_while_a_run_went_on_is_another_code(tmp_path):
    make(tmp_path / "one", [0.5])
    make(tmp_path / "two", [0.6], {"learning_rate": 0.1}, continued=[{**RECORD, "code": OTHER["code"][0]}])
    content = content_of(tmp_path)
    assert titles(content) == ["2 versions of the task's code."]
    assert [item.endswith("changed while it ran, in 1: two") for item in content["warnings"][0]["items"]] == [
        False,
        True,
    ]


def test_a_run_that_went_on_as_it_began_is_no_other(tmp_path):
    make(tmp_path / "one", [0.5])
    make(tmp_path / "two", [0.6], {"learning_rate": 0.1}, continued=[RECORD, RECORD])
    assert content_of(tmp_path)["warnings"] == []


def test_that_another_task_has_other_code_and_data_goes_without_saying(tmp_path):
    for name, task in (("one", "model"), ("two", "examples.other"), ("three", "examples.other")):
        code = {f"{task}/net.py": "changed" if name == "three" else "1111"}
        data = {"files": 1, "bytes": 1, "sha256": task}
        make(tmp_path / name, [0.5], {"task": task, "name": name}, code=code, data=data)
        tables = content_of(tmp_path)["tables"]
        expected = {"model": [], "examples.other": ["2 versions of the task's code."] if name == "three" else []}
        assert {table["task"]: titles(table) for table in tables} == {
            table["task"]: expected[table["task"]] for table in tables
        }
    letters = column(content_of(tmp_path), "code")
    assert sorted(letters) == ["three", "two"]
    assert sorted(letters.values()) == ["A", "B"]


def test_another_commit_or_patch_of_the_same_task_is_told(tmp_path):
    make(tmp_path / "one", [0.5])
    make(tmp_path / "two", [0.6], {"learning_rate": 0.1}, git={"commit": "b" * 40, "patch": "+ x"})
    warning = content_of(tmp_path)["warnings"][0]
    assert warning["title"] == "2 states of the repository."
    assert any("bbbbbbbbbb with a patch" in item for item in warning["items"])


def test_another_device_is_told_for_its_times(tmp_path):
    make(tmp_path / "one", [0.5])
    make(tmp_path / "two", [0.6], {"learning_rate": 0.1}, device="cuda:0")
    assert titles(content_of(tmp_path)) == ["2 devices."]


def test_what_waits_for_its_run_is_in_the_table_and_no_reason_for_a_warning(tmp_path):
    make(tmp_path / "one", [0.5])
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "params.json").write_text('{"learning_rate": 0.5}')
    content = content_of(tmp_path)
    assert content["warnings"] == []
    assert column(content, "state")["next"] == "not run"


DAMAGE = {
    "run.json": [
        "{",
        "[1]",
        "\xff",
        '{"git": 3, "versions": [], "code": "x", "data": 1, "evaluations": {}, "continued": 5}',
        '{"git": {"patch": 3, "untracked": []}, "code": {"a": 1}, "evaluations": [{"at": 1, "scores": 2}]}',
    ],
    "metrics.jsonl": ['{"epoch": 1}\nnonsense\n{"epoch": 2}\n', "[[[[", '{"epoch": "one", "val_accuracy": {}}\n'],
    "status.json": ["", "{"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in DAMAGE.items() for text in texts])
def test_a_damaged_file_never_ends_the_report(name, text, tmp_path):
    make(tmp_path / "good", [0.5, 0.6])
    damaged = make(tmp_path / "damaged", [0.7], {"learning_rate": 0.1})
    (damaged / name).write_bytes(text.encode("latin-1"))
    content = content_of(tmp_path)
    assert sorted(column(content, "state")) == ["damaged", "good"]
    assert report(tmp_path).is_file()


def test_a_damaged_file_is_a_remark_and_a_warning_and_said_once(tmp_path):
    make(tmp_path / "good", [0.5, 0.6])
    (make(tmp_path / "damaged", [0.7]) / "run.json").write_text("{")
    (make(tmp_path / "pictures", [0.7], {"seed": 7}) / "confusion_test.png").mkdir()
    content = content_of(tmp_path)
    remarks = {entry["cells"][0]: entry["remark"] for entry in content["entries"]}
    assert remarks["good"] == ""
    assert remarks["damaged"].count("run.json") == 1
    assert "confusion_test.png" in remarks["pictures"]
    (warning,) = [one for one in content["warnings"] if "could not be read" in one["title"]]
    assert len(warning["items"]) == 2


def test_patches_are_kept_once_and_cut_where_they_are_too_long(tmp_path):
    long = "+" * (LONGEST_TEXT + 5)
    for number in range(3):
        git = {"commit": "c" * 40, "patch": "+ learning faster", "untracked": {"model/new.py": long}}
        make(tmp_path / str(number), [0.5], {"width": number}, git=git)
    content = content_of(tmp_path)
    assert len(content["texts"]) == 2
    assert content["texts"][0] == "+ learning faster"
    assert content["texts"][1].endswith("\n… 5 more characters stand in run.json")
    assert content["entries"][2]["sources"] == [
        ("Patch: what differed from the commit", 0),
        ("model/new.py: not in git", 1),
    ]


def test_looks_are_in_order_wherever_the_clocks_stood(tmp_path):
    times = ["2026-11-20T09:00:00-0800", "2026-11-20T17:30:00+0000", "2026-11-20T18:00:00+0200", "once"]
    looks = [{"split": "test", "checkpoint": "best", "at": at, "scores": {}} for at in times]
    make(tmp_path / "one", [0.5], evaluations=looks)
    told = [when for when, *_ in content_of(tmp_path)["looks"]]
    assert told == [times[place].replace("T", " ") for place in (2, 0, 1, 3)]


def test_looks_at_the_test_split_are_told_in_order_and_others_are_not(tmp_path):
    look = {"split": "test", "checkpoint": "best", "at": "2026-11-20T12:00:00+0000", "scores": {"accuracy": 0.91234}}
    later = {**look, "at": "2026-11-21T12:00:00+0000", "scores": {}}
    make(tmp_path / "one", [0.5], evaluations=[later, {**look, "split": "val"}, "damaged"])
    make(tmp_path / "two", [0.6], {"seed": 2}, evaluations=[look])
    content = content_of(tmp_path)
    assert content["looks"] == [
        ["2026-11-20 12:00:00+0000", "two", "test", "best", "accuracy 0.9123"],
        ["2026-11-21 12:00:00+0000", "one", "test", "best", ""],
    ]
    assert content["looks_summary"].startswith("2 on record, in 2 of 2 experiments.")


def test_each_two_states_of_the_code_are_compared_once(tmp_path):
    for place, line in enumerate(("a", "b", "a", "c")):
        git = {"commit": "0" * 40, "patch": f"+{line}", "untracked": {}}
        make(tmp_path / str(place), [1 - place / 10], {"width": place}, git=git)
    (make(tmp_path / "unknown", [0.1], {"width": 9}) / "run.json").unlink()
    content = content_of(tmp_path)
    assert [entry["revision"] for entry in content["entries"]] == [0, 1, 0, 2, None]
    assert set(content["differences"]) == {"0-1", "0-2", "1-2"}
    assert content["differences"]["0-2"].split("\n")[-2:] == ["-+a", "++c"]


def test_of_many_states_of_the_code_those_of_the_best_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.report.origins.MOST_REVISIONS", 2)
    for place in range(4):
        git = {"commit": "0" * 40, "patch": f"+{place}", "untracked": {}}
        make(tmp_path / str(place), [1 - place / 10], {"width": place}, git=git)
    assert set(content_of(tmp_path)["differences"]) == {"0-1"}
