"""Data that changed do not pass in silence, and data that only grew, moved or were copied stop nothing."""

import json
import os
import shutil

import pytest

from engine.experiment.data_files import (
    MOST_READ,
    SMALL_FILE,
    as_listed,
    differences,
    fingerprint_of,
    list_files,
    read_listed,
)


@pytest.fixture
def data(tmp_path):
    """A folder with a label file, two pictures and one file that is too large to be read each time."""
    folder = tmp_path / "data"
    (folder / "train").mkdir(parents=True)
    (folder / "labels.csv").write_text("a,1\nb,2\n")
    (folder / "train" / "a.png").write_bytes(b"aaaa")
    (folder / "train" / "b.png").write_bytes(b"bbbb")
    (folder / "large.bin").write_bytes(bytes(SMALL_FILE + 1))
    return folder


@pytest.fixture
def compare(data, tmp_path):
    """Notes the data as a run does; returns what tells how they differ from then, as (refused, told)."""
    before = list_files(data)
    (tmp_path / "data_files.json").write_text(json.dumps(as_listed(before)))

    def now(place=data, listed=True):
        kept = read_listed(tmp_path / "data_files.json") if listed else {}
        return differences(fingerprint_of(before), kept, list_files(place), "data")

    return now


NOTHING = ([], [])


def test_nothing_changed(compare):
    assert compare() == NOTHING


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "too many to be listed"])
def test_a_label_that_was_edited_is_seen_although_the_file_is_as_long_and_as_old(compare, data, listed):
    stat = (data / "labels.csv").stat()
    (data / "labels.csv").write_text("a,2\nb,2\n")
    os.utime(data / "labels.csv", (stat.st_atime, stat.st_mtime))
    refused, told = compare(listed=listed)
    assert len(refused) == 1
    assert told == []
    assert "labels.csv" in refused[0] or not listed


def test_what_is_gone_or_of_another_size_is_refused_by_name(compare, data):
    (data / "train" / "a.png").unlink()
    (data / "large.bin").write_bytes(b"")
    assert compare() == (["data in data: gone train/a.png", "data in data: changed large.bin"], [])


def test_what_was_added_is_told(compare, data):
    for name in "cdefg":
        (data / "train" / f"{name}.png").touch()
    refused, told = compare()
    assert refused == []
    assert told == ["data: 5 files added since this run began: train/c.png, train/d.png, train/e.png and 2 more"]


def test_data_that_moved_or_were_copied_are_the_same(compare, data, tmp_path):
    shutil.copytree(data, tmp_path / "copy", copy_function=shutil.copy)  # with new times
    refused, told = compare(tmp_path / "copy")
    assert refused == []
    assert told == ["data: 1 file with another time, compared in part or not at all: large.bin"]
    data.rename(tmp_path / "moved")
    assert compare(tmp_path / "moved") == NOTHING


def test_a_large_file_that_was_written_anew_is_refused_and_one_that_was_touched_is_not(compare, data):
    os.utime(data / "large.bin", (1, 1))
    assert compare()[0] == []
    with (data / "large.bin").open("r+b") as file:
        file.seek(SMALL_FILE // 3)
        file.write(b"other" * 20_000)
    for seconds in (1, 2):  # whether it looks as old as it was or not
        os.utime(data / "large.bin", (seconds, seconds))
        assert compare()[0] == ["data in data: changed large.bin"]


def test_of_very_many_files_some_are_compared_one_by_one_and_the_others_in_all(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.experiment.data_files.MOST_LISTED", 10)
    for number in range(35):
        (tmp_path / f"{number:02}").write_text("1")
    before = list_files(tmp_path)
    listed = as_listed(before)
    assert 5 <= len(listed) <= 10

    def compare():
        return differences(fingerprint_of(before), listed, list_files(tmp_path), "data")

    assert compare() == NOTHING
    (tmp_path / "35").write_text("1")
    refused, told = compare()
    assert refused == []
    assert told == ["data in data: 35 files, 35 bytes -> 36 files, 36 bytes; too many to be compared one by one"]
    (tmp_path / "35").unlink()
    name = next(name for name in before if name not in listed)
    (tmp_path / name).write_text("2")
    assert compare().refused  # as many files, and not the same
    (tmp_path / name).write_text("1")
    (tmp_path / next(iter(listed))).unlink()
    (tmp_path / "35").write_text("1")
    assert compare().refused == ["data in data: gone 00"]


def test_what_we_write_there_ourselves_does_not_count(compare, data):
    for name in (".cache/images.npy", "runs/one/params.json", "runs/one/last.pth.tar", "__pycache__/x.pyc"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text("{}")
    assert compare() == NOTHING


def test_data_may_be_one_file(tmp_path):
    (tmp_path / "all.csv").write_text("1,2")
    before = list_files(tmp_path / "all.csv")
    assert fingerprint_of(before)["files"] == 1
    (tmp_path / "all.csv").write_text("1,3")
    assert differences(fingerprint_of(before), before, list_files(tmp_path / "all.csv"), "x").refused


def test_links_to_nothing_and_pipes_end_nothing(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
    assert {name: file.size for name, file in list_files(tmp_path).items()} == dict.fromkeys(os.listdir(tmp_path), -1)


def test_there_may_be_no_data_at_all(tmp_path):
    assert list_files(tmp_path / "nowhere") is None
    assert differences(None, {}, None, "none") == NOTHING


@pytest.mark.parametrize(("limit", "most"), [("MOST_READ", 10), ("MOST_OPENED", 2)])
def test_many_small_files_are_not_read_each_time(tmp_path, monkeypatch, limit, most):
    monkeypatch.setattr(f"engine.experiment.data_files.{limit}", most)
    for name in "abc":
        (tmp_path / name).write_bytes(bytes(5))
    assert {file.content for file in list_files(tmp_path).values()} == {None}
    assert MOST_READ >= 2**20
