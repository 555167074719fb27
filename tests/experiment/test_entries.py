"""What folders say of experiments."""

import json
import os
import time
from pathlib import Path

import pytest

from engine.comparison.groups import group_entries
from engine.comparison.table import make_table
from engine.experiment.entries import read_entries, read_entry
from tests.support.made_runs import history_row, make_run, write


def names(parent):
    return [entry.name for entry in read_entries(parent)]


def test_an_entry_is_what_the_run_has_left(tmp_path):
    make_run(tmp_path / "some" / "run", [0.5, 0.9, 0.7, 0.9], test={"accuracy": 0.8}, params={"seed": 3, "width": 8})
    (entry,) = read_entries(tmp_path)
    assert (entry.name, entry.folder) == ("some/run", tmp_path / "some" / "run")
    assert (entry.state, entry.reason, entry.remark) == ("finished", None, "")
    assert entry.val == {"accuracy": 0.9, "loss": pytest.approx(0.1)}
    assert entry.test == {"accuracy": 0.8}
    assert (entry.best_epoch, entry.epochs) == (4, 4)  # the later of equals
    assert (entry.seconds, entry.examples_per_second, entry.parameters) == (8.0, 400.0, 12345)
    assert (entry.monitor, entry.mode) == ("accuracy", "max")
    assert (entry.params["seed"], entry.params["width"]) == (3, 8)
    assert entry.params["batch_size"] == 32  # what runs by default


def test_the_best_epoch_is_the_lowest_where_low_is_good(tmp_path):
    entry = read_entry(make_run(tmp_path, [0.5, 0.9, 0.7], monitor="loss", mode="min"))
    assert (entry.best_epoch, entry.val["accuracy"]) == (2, 0.9)
    entry = read_entry(make_run(tmp_path, [0.5, 0.9, 0.4], monitor="accuracy", mode="min"))
    assert entry.best_epoch == 3


def test_nan_is_never_best(tmp_path):
    entry = read_entry(make_run(tmp_path, [None, 0.4, None]))
    assert (entry.best_epoch, entry.val["accuracy"], entry.epochs) == (2, 0.4, 3)
    text = (tmp_path / "metrics.jsonl").read_text().replace('"val_accuracy": null', '"val_accuracy": NaN')
    (tmp_path / "metrics.jsonl").write_text(text)
    assert read_entry(tmp_path).best_epoch == 2
    assert read_entry(make_run(tmp_path, [None, None])).val == {}


def test_an_older_record_is_read_as_a_run_would_choose(tmp_path):
    entry = read_entry(make_run(tmp_path, monitor=None, mode=None))
    assert (entry.monitor, entry.mode, entry.best_epoch) == ("accuracy", "max", 2)
    entry = read_entry(make_run(tmp_path, monitor=None, mode=None, params={"monitor": "loss"}))
    assert (entry.monitor, entry.mode, entry.best_epoch) == ("loss", "min", 2)


def test_without_a_known_direction_nothing_is_guessed(tmp_path):
    row = {"epoch": 1, "val_heat": 1.0}
    folder = make_run(tmp_path, history=[row, {**row, "epoch": 2}], monitor="heat", mode=None)
    assert (read_entry(folder).mode, read_entry(folder).best_epoch, read_entry(folder).epochs) == (None, None, 2)
    write(folder, "metrics_val_best_weights.json", {"heat": 0.5})
    assert read_entry(folder).val == {"heat": 0.5}


def test_an_experiment_of_the_course_template(tmp_path):
    write(tmp_path, "params.json", {"learning_rate": 0.1})
    write(tmp_path, "metrics_val_best_weights.json", {"accuracy": 0.7, "loss": 0.3})
    (entry,) = read_entries(tmp_path)
    assert (entry.name, entry.state, entry.val) == (tmp_path.name, None, {"accuracy": 0.7, "loss": 0.3})
    assert (entry.monitor, entry.mode, entry.best_epoch) == ("accuracy", "max", None)


def test_the_code_is_that_of_the_last_time_a_run_went_on(tmp_path):
    entry = read_entry(make_run(tmp_path, continued=[{"code": {"net.py": "2"}}, {"code": {"net.py": "3"}}]))
    assert entry.code == "net.py:3"


def test_folders_at_any_depth_but_not_what_was_moved_aside(tmp_path):
    for name in ("a", "a/b/c", "a/.old/1", "d/.hidden", "a/tensorboard", "e f/ü"):
        make_run(tmp_path / name)
    (tmp_path / "data").mkdir()
    assert names(tmp_path) == ["a", "a/b/c", "e f/ü"]
    assert names(tmp_path / "a" / "b" / "c") == ["c"]


def test_what_waits_for_its_run_is_there_and_the_base_of_others_is_not(tmp_path):
    for name in ("waiting", "group", "search", "group-2"):
        write(tmp_path / name, "params.json", {"learning_rate": 0.5, "_comment": "none"})
    write(tmp_path / "search", "search.json", {})
    make_run(tmp_path / "group" / "one")
    entries = {entry.name: entry for entry in read_entries(tmp_path)}
    assert sorted(entries) == ["group-2", "group/one", "waiting"]
    waiting = entries["waiting"]
    assert (waiting.state, waiting.has_run, waiting.params["learning_rate"]) == (None, False, 0.5)
    assert "_comment" not in waiting.params
    make_run(tmp_path / "search")  # that itself was run once
    make_run(tmp_path / "search" / "one")
    write(tmp_path, "params.json", {})
    assert names(tmp_path) == ["group-2", "group/one", "search", "search/one", "waiting"]


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    assert read_entries(tmp_path / "nowhere") == []
    assert read_entry(tmp_path / "nowhere") is None


def test_links_are_followed_to_other_places_once(tmp_path):
    make_run(tmp_path / "disk" / "far")
    make_run(tmp_path / "here" / "near")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "here")
    (tmp_path / "disk" / "round").symlink_to(tmp_path / "disk")
    for name, target in {"more": "disk", "self": "here", "up": ".", "latest": "here/near"}.items():
        (tmp_path / "here" / name).symlink_to(tmp_path / target)
    found = names(tmp_path / "here")
    assert "near" in found
    assert sum(name.endswith("far") for name in found) == 1
    assert sum("near" in name for name in found) == 1


def test_a_link_that_leads_nowhere_is_passed_over(tmp_path):
    make_run(tmp_path / "a")
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "gone").symlink_to("nowhere")
    assert names(tmp_path) == ["a"]


# States


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ({"state": "pruned", "reason": "others are ahead"}, "pruned"),
        ({"state": "failed"}, "failed"),
        ({"state": "running", "host": os.uname().nodename if hasattr(os, "uname") else ""}, "interrupted"),
        ({"state": "running", "updated": time.time() - 1000}, "lost"),
        ({"state": "running"}, "running"),
    ],
)
def test_the_state_is_what_is_really_so(tmp_path, status, shown):
    make_run(tmp_path, status=status)
    assert read_entry(tmp_path).state == shown
    assert read_entry(tmp_path).reason == status.get("reason")


def test_a_reason_is_one_line(tmp_path):
    make_run(tmp_path, status={"state": "failed", "reason": "CUDA error: no memory\nSet this:\r\n  that\n"})
    assert read_entry(tmp_path).reason == "CUDA error: no memory Set this: that"


# Damage

CONTENTS = {
    "no JSON": b"{",
    "empty": b"",
    "no UTF-8": b'{"a": "\xff\xfe"}',
    "a list": b"[1, 2]",
    "a number": b"3",
    "deep": b"[" * 100_000,
    "zeros": bytes(100),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
@pytest.mark.parametrize("name", ["run.json", "status.json", "metrics_test_best.json"])
def test_a_damaged_file_is_a_remark_on_its_experiment(tmp_path, name, content):
    make_run(tmp_path / "sound")
    folder = make_run(tmp_path / "torn", test={"accuracy": 0.1}, params={"learning_rate": 0.25})
    (folder / name).write_bytes(content)
    sound, torn = read_entries(tmp_path)
    assert (sound.remark, sound.best_epoch) == ("", 2)
    assert torn.remark in (f"{name} is damaged", f"{name} holds no JSON object")
    assert torn.val["accuracy"] == 0.9
    assert torn.params["learning_rate"] == 0.25


def test_a_folder_in_place_of_a_file(tmp_path):
    folder = make_run(tmp_path)
    (folder / "run.json").unlink()
    (folder / "run.json").mkdir()
    assert read_entry(folder).remark == f"run.json cannot be read ({os.strerror(21)})"


def test_a_file_that_is_too_large_is_left_alone(tmp_path):
    folder = make_run(tmp_path)
    with (folder / "metrics.jsonl").open("r+b") as file:
        file.truncate(2**40)
    assert read_entry(folder).remark == "metrics.jsonl is too large to be read"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="this user may read everything")
def test_what_may_not_be_read(tmp_path):
    make_run(tmp_path / "closed").chmod(0)
    (make_run(tmp_path / "shut") / "run.json").chmod(0)
    try:
        assert [entry.remark.count("Permission denied") for entry in read_entries(tmp_path)] == [1, 1]
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_folder_that_cannot_be_listed_is_not_passed_over(tmp_path, monkeypatch):
    def refusing(function):
        def call(path):
            if Path(path).name == "closed":
                raise PermissionError(13, "Permission denied")
            return function(path)

        return call

    make_run(tmp_path / "open")
    (tmp_path / "closed").mkdir()
    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    assert names(tmp_path) == ["closed", "open"]
    assert "run.json cannot be read" in read_entries(tmp_path)[0].remark
    assert "run.json cannot be read" in read_entry(tmp_path / "closed").remark


def test_lines_of_a_history_are_read_as_far_as_they_go(tmp_path):
    folder = make_run(tmp_path, [0.1, 0.2, 0.3])
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join([*lines, lines[2][:20]]))
    assert (read_entry(folder).best_epoch, read_entry(folder).remark) == (3, "")  # one is just being written
    (folder / "metrics.jsonl").write_text("\n".join([lines[0], lines[1][:20], "", "[1]", "null", lines[2]]))
    entry = read_entry(folder)
    assert (entry.best_epoch, entry.epochs, entry.remark) == (3, 3, "metrics.jsonl: line 2 is damaged")


STRANGE = [10**400, 1e308 * 10, -(10**400), "fast", [], {}, True, None]


@pytest.mark.parametrize("value", STRANGE, ids=range(len(STRANGE)))
def test_a_value_that_no_run_writes_ends_nothing(tmp_path, value):
    odd = {**history_row(1, 0.5), "seconds": value, "examples_per_second": value, "val_loss": value, "epoch": value}
    folder = make_run(tmp_path, history=[odd], parameters=value, code=value, data=value, git=value, continued=value)
    write(folder, "metrics_test_best.json", {"accuracy": value})
    write(folder, "status.json", {"state": value, "reason": value, "seconds": value})
    write(folder, "params.json", {"seed": value, "width": value})
    entry = read_entry(folder)
    assert entry.val["accuracy"] == 0.5
    assert all(score is None or abs(score) < 1e300 for score in [*entry.val.values(), *entry.test.values()])
    assert all(fact is None or abs(fact) < 1e300 for fact in (entry.seconds, entry.epochs, entry.parameters))
    make_table(group_entries([entry]))
    run = json.loads((folder / "run.json").read_text())
    for key in ("params", "monitor", "mode"):
        write(folder, "run.json", {**run, key: value})
        assert read_entry(folder).epochs in (0, 1)
        group_entries(read_entries(tmp_path))


def test_a_run_that_does_not_say_who_it_is_is_lost(tmp_path):
    folder = make_run(tmp_path)
    write(folder, "status.json", {"state": "running"})
    assert (read_entry(folder).state, read_entry(folder).remark) == ("lost", "")
