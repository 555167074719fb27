"""Files are whole or not there, and JSON is what strict readers take."""

import json
import math

import pytest

from engine.errors import DiskError, UserError
from engine.files import read_json, replacing, write_json


def test_a_file_is_replaced_in_one_piece(tmp_path):
    path = tmp_path / "status.json"
    path.write_text("old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [{}, {"status.json": b"old"}])
def test_a_failure_while_writing_changes_nothing(tmp_path, fault, old):
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(fault), replacing(tmp_path / "status.json") as file:
        file.write(b"half of")
        raise fault
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old


def test_what_json_cannot_hold_is_null(tmp_path):
    path = tmp_path / "scores.json"
    write_json(path, {"loss": math.nan, "parts": [1.5, math.inf, (-math.inf, 2)], "inner": {"f1": math.nan}, "n": 3})

    def refuse(text):
        raise AssertionError(text)

    content = json.loads(path.read_text(), parse_constant=refuse)
    assert content == {"loss": None, "parts": [1.5, None, [None, 2]], "inner": {"f1": None}, "n": 3}


def test_what_is_written_is_read_again(tmp_path):
    content = {"learning_rate": 1e-3, "name": "Übung", "sizes": [1, 2], "flag": True, "nothing": None}
    write_json(tmp_path / "params.json", content)
    assert read_json(tmp_path / "params.json") == content
    assert "Übung" in (tmp_path / "params.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"seed": 1,\n}', r"comma .*at line [12], column"),
        ('{"betas": [0.9, ]}', r"comma .*at line 1, column"),
        ('{"seed": 1  // of 3\n}', r'a comment \(.*"_" is one\) at line 1, column 13'),
        ('# mine\n{"seed": 1}', r"a comment .* at line 1, column 1"),
        ('{"seed": 1 "lr": 2}', r"Expecting ',' delimiter at line 1, column 12"),
    ],
)
def test_what_is_no_json_is_told_by_its_place(tmp_path, text, fault):
    (tmp_path / "params.json").write_text(text)
    with pytest.raises(UserError, match=f"params.json: not valid JSON: .*{fault}"):
        read_json(tmp_path / "params.json")


def test_a_name_that_is_no_text_is_read_again(tmp_path):
    write_json(tmp_path / "data.json", {"file": "caf\udce9"})
    assert read_json(tmp_path / "data.json") == {"file": "caf\udce9"}


def test_a_value_that_is_no_json_leaves_the_file(tmp_path):
    path = tmp_path / "data.json"
    write_json(path, {"classes": 3})
    with pytest.raises(TypeError):
        write_json(path, {"classes": object()})
    assert read_json(path) == {"classes": 3}
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(DiskError, match=r"folder.json: cannot be written"), replacing(tmp_path / "folder.json"):
        pass
    with pytest.raises(DiskError, match=r"cannot be written"), replacing(tmp_path / "none" / "status.json"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["folder.json"]
