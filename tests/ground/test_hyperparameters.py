"""`Params` and the table of hyperparameters: no typo passes, and each fault is one line that says where and what."""

import copy
import json
import pickle
import re

import numpy as np
import pytest

from engine.errors import UserError
from engine.hyperparameters import KEYS, Key, MissingKey, Params, checked, load_params, parse_setting


@pytest.fixture
def load(tmp_path):
    """Loads what a params.json would hold: `load(batch_size=3)` or `load(text="{...")`."""
    path = tmp_path / "params.json"

    def load(text=None, **values):
        text = json.dumps(values) if text is None else text
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_params(path)

    return load


def reason(load, *arguments, **values):
    """The one line with which the params are refused."""
    with pytest.raises(UserError) as refusal:
        load(*arguments, **values)
    line = str(refusal.value)
    assert "params.json" in line
    assert "\n" not in line
    return line


# The table


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_each_key_is_explained_and_its_default_is_allowed(key):
    assert len(key.meaning) > 10
    assert checked(key, key.default, "the table") == key.default


@pytest.mark.parametrize("name", KEYS)
def test_what_the_file_leaves_out_has_the_default_of_the_table(load, name):
    assert getattr(load(), name) == KEYS[name].default


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("batch_size", 1e2, 100),
        ("num_epochs", 3.0, 3),
        ("learning_rate", 1, 1.0),
        ("grad_clip", 5, 5.0),
        ("grad_clip", None, None),
        ("monitor", None, None),
        ("ema_decay", 0.999, 0.999),
        ("betas", [0.9, 0.99], [0.9, 0.99]),
        ("channels_last", True, True),
        ("schedule", "onecycle", "onecycle"),
    ],
)
def test_values_that_mean_the_same_are_welcome(load, key, value, meant):
    taken = getattr(load(**{key: value}), key)
    assert taken == meant
    assert type(taken) is type(meant)


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("batch_size", "32", "a whole number"),
        ("batch_size", 32.5, "a whole number"),
        ("batch_size", True, "a whole number"),
        ("batch_size", None, "a whole number"),
        ("learning_rate", "fast", "a number"),
        ("learning_rate", True, "a number"),
        ("learning_rate", [0.1], "a number"),
        ("channels_last", 1, "true or false"),
        ("channels_last", "true", "true or false"),
        ("optimizer", 3, "text in quotes"),
        ("data_dir", {}, "text in quotes"),
        ("betas", 0.9, "a list"),
    ],
)
def test_a_value_of_another_type_is_refused(load, key, value, kind):
    assert f'"{key}" must be {kind}, not {json.dumps(value)}' in reason(load, **{key: value})


@pytest.mark.parametrize("value", [0, 0.0])
def test_a_gradient_is_not_clipped_to_nothing(load, value):
    assert '"grad_clip": 0 leaves nothing of any gradient; null' in reason(load, grad_clip=value)


@pytest.mark.parametrize(
    ("key", "value", "limits"),
    [
        ("batch_size", 0, "at least 1"),
        ("num_epochs", -1, "at least 1"),
        ("learning_rate", -0.1, "at least 0"),
        ("ema_decay", 1, "at most 0.99999"),
        ("threads", 100000, "at most 1024"),
        ("seed", -1, "at least 0"),
        ("seed", 2**63, "at most"),
        ("threads", 0, "at least 1"),
        ("accumulate", 0, "at least 1"),
        ("betas", [0.9, 1.0], "two numbers from 0 up to 1"),
        ("betas", [0.9], "two numbers from 0 up to 1"),
        ("betas", [0.9, "0.99"], "two numbers from 0 up to 1"),
    ],
)
def test_a_value_out_of_range_is_refused(load, key, value, limits):
    assert f'"{key}" must be {limits}' in reason(load, **{key: value})


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [("schedule", "cosin", "cosine"), ("precision", "float23", "float32"), ("mode", "maxi", "max")],
)
def test_a_choice_that_is_none_names_the_nearest(load, key, value, meant):
    line = reason(load, **{key: value})
    assert f'"{key}" must be one of ' in line
    assert f'did you mean "{meant}"?' in line


def test_every_default_of_none_may_be_written_as_null(load):
    absent = [key.name for key in KEYS.values() if key.default is None]
    params = load(**dict.fromkeys(absent))
    assert all(getattr(params, name) is None for name in absent)


# The file


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"seed": 1,\n "batch_size": 3,}', "line 2, column"),
        ("{'seed': 1}", "line 1, column 2"),
        ("", "line 1, column 1"),
        ('{"seed": 1} {"seed": 2}', "line 1, column 13"),
        ('{"seed": 1, "seed": 2}', '"seed" stands there twice'),
        ('{"sizes": {"a": 1, "a": 2}}', '"a" stands there twice'),
        ('{"learning_rate": NaN}', "NaN"),
        ('{"learning_rate": Infinity}', "Infinity"),
        ('{"learning_rate": -Infinity}', "-Infinity"),
        ('{"learning_rate": 1e400}', "1e400"),
        ("[1, 2]", "one JSON object"),
        ("3", "one JSON object"),
        ("null", "one JSON object"),
        (b'{"name": "caf\xe9"}', "not UTF-8"),
        ("[" * 10_000, "nested"),
        ('{"a":' * 10_000 + "1" + "}" * 10_000, "nested"),
    ],
    ids=range(16),
)
def test_a_file_that_is_no_json_object_is_refused(load, text, said):
    assert said in reason(load, text)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"params\.json: no such file"):
        load_params(tmp_path / "params.json")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path):
    (tmp_path / "params.json").mkdir()
    with pytest.raises(UserError, match=r"params\.json: cannot be read"):
        load_params(tmp_path / "params.json")


def test_a_byte_order_mark_is_no_fault(load):
    assert load(b'\xef\xbb\xbf{"batch_size": 7}').batch_size == 7


def test_keys_with_an_underscore_are_comments(load):
    params = load(_note="tried on Monday", batch_size=7)
    assert "_note" not in params.effective()
    assert params.unread() == ["batch_size"]
    params.check_unread()


# Asking


def test_a_key_that_is_asked_for_and_missing_names_the_nearest(load):
    params = load(num_chanels=8)
    with pytest.raises(MissingKey) as refusal:
        _ = params.num_channels
    assert '"num_channels" is asked for and not there; did you mean "num_chanels"?' in str(refusal.value)
    assert "params.json" in str(refusal.value)


def test_code_can_give_its_own_default(load):
    params = load(width=3)
    assert getattr(params, "depth", 5) == 5
    assert getattr(params, "width", 5) == 3
    assert not hasattr(params, "depth")
    assert hasattr(params, "width")


WIDTH = Key("width", int, 16, "of a task's own layer", low=1)


@pytest.mark.parametrize(("values", "width"), [({}, 16), ({"width": 3}, 3), ({"width": 1e1}, 10)])
def test_an_option_of_a_task_is_the_value_of_the_file_or_its_default(load, values, width):
    assert load(**values).option(WIDTH) == width


def test_an_option_that_is_not_allowed_is_refused_with_the_path_of_the_file(load, tmp_path):
    with pytest.raises(UserError) as refusal:
        load(width=0).option(WIDTH)
    assert str(refusal.value) == f'{tmp_path / "params.json"}: "width" must be at least 1, not 0'


def test_an_option_counts_as_read(load):
    params = load(width=3)
    assert params.unread() == ["width"]
    params.option(WIDTH)
    assert params.unread() == []
    slipped = load(widht=3)
    slipped.option(WIDTH)
    with pytest.raises(UserError, match=r'"widht" is read by nothing; did you mean "width"\?'):
        slipped.check_unread()


@pytest.mark.parametrize("name", KEYS)
def test_a_slip_in_any_key_of_the_table_is_refused(load, name):
    slip = name[:-2] + name[-1]
    params = load(**{slip: 1})
    with pytest.raises(UserError, match=f'"{slip}" is read by nothing; did you mean "{name}"?'):
        params.check_unread()


def test_a_slip_in_a_key_of_the_task_is_refused_once_code_has_asked(load):
    params = load(num_hiden=4)
    assert getattr(params, "num_hidden", 16) == 16
    with pytest.raises(UserError, match=r'"num_hiden" is read by nothing; did you mean "num_hidden"\?'):
        params.check_unread()


def test_a_key_that_resembles_nothing_is_no_fault(load):
    params = load(course="CS230", batch_size=3)
    _ = params.batch_size
    params.check_unread()
    assert params.unread() == ["course"]


def test_a_key_that_resembles_one_in_use_is_no_fault(load):
    params = load(num_channels=4, num_channels_2=8, betas=[0.9, 0.99], beta=1)
    _ = params.num_channels, params.betas, params.num_channels_2
    params.check_unread()


# Setting


def test_what_code_sets_is_learned_and_not_typed(load):
    params = load(batch_size=3)
    params.num_classes = 10
    params.provide(cuda=False)
    assert params.num_classes == 10
    assert params.learned() == {"num_classes": 10}
    assert not {"num_classes", "cuda"} & params.effective().keys()


def test_of_what_is_typed_and_learned_the_learned_counts_and_the_typed_is_kept(load):
    params = load(num_classes=10, mean=[0.5, 0.5], width=8, image_size=None, sizes=[1, 2], parts={"a": [1, 2]})
    params.num_classes, params.mean, params.width, params.image_size = 10, np.array([0.5, 0.5]), 9, 64
    params.sizes.append(3)
    params.parts = {"a": (1, 2)}
    assert params.width == 9
    assert params.overruled() == {"width": 9}  # equal values are no difference, and null is as good as absent
    typed = {"num_classes": 10, "mean": [0.5, 0.5], "width": 8, "image_size": None, "sizes": [1, 2]}
    typed["parts"] = {"a": [1, 2]}
    assert {key: value for key, value in params.effective().items() if key not in KEYS} == typed
    assert params.learned().keys() == {"num_classes", "mean", "width", "image_size", "parts"}


@pytest.mark.parametrize("write", [setattr, lambda params, key, value: params.dict.update({key: value})])
def test_a_task_cannot_set_what_the_engine_goes_by(load, write):
    params = load(batch_size=3, device="auto")
    params.provide(device="the real one")
    write(params, "batch_size", 3)
    write(params, "device", "the real one")
    for key, value, in_effect in (("batch_size", 4, 3), ("device", "auto", "the real one"), ("seed", True, 230)):
        with pytest.raises(
            UserError, match=rf"params\.json: the task sets params\.{key} to {value}, where {in_effect} is"
        ):
            write(params, key, value)
    assert (params.batch_size, params.device, params.effective()["device"]) == (3, "the real one", "auto")
    assert params.learned() == {}


def test_what_is_written_into_the_dict_is_learned(load):
    params = load(width=8)
    params.dict["depth"] = 2
    vars(params).update(width=4)
    assert params.learned() == {"depth": 2, "width": 4}
    assert json.loads(json.dumps(params.dict)) == {"width": 4, "depth": 2}


def test_the_params_of_an_experiment_have_the_defaults_wherever_they_are_read(tmp_path):
    (tmp_path / "params.json").write_text('{"learning_rate": 0.5}')
    params = Params(tmp_path / "params.json")
    assert (params.learning_rate, params.seed, params.dict) == (0.5, 230, {"learning_rate": 0.5})
    params.seed = 3  # a notebook may
    params.save(tmp_path / "copy.json")
    assert json.loads((tmp_path / "copy.json").read_text()) == {"learning_rate": 0.5, "seed": 3}


@pytest.mark.parametrize(
    ("key", "value", "way_out"),
    [
        (
            "patience",
            0.02,
            r"\(epochs without a new best .*\); if your task means another thing, give its key another name",
        ),
        ("learning_rate", [0.1, 0.01], "several values to try belong into a search.json"),
    ],
)
def test_a_value_of_another_kind_has_a_way_out(load, key, value, way_out):
    assert re.search(way_out, reason(load, **{key: value}))


def test_effective_values_are_the_files_over_the_tables(load):
    effective = load(batch_size=3, width=8).effective()
    assert (effective["batch_size"], effective["width"]) == (3, 8)
    assert KEYS.keys() <= effective.keys()


def test_params_of_another_file_are_not_checked(tmp_path):
    (tmp_path / "dataset_params.json").write_text('{"batch_size": "as in the paper", "vocab_size": 9}')
    params = Params(tmp_path / "dataset_params.json")
    assert (params.batch_size, params.vocab_size) == ("as in the paper", 9)
    assert not hasattr(params, "learning_rate")


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda params: pickle.loads(pickle.dumps(params))])
def test_a_copy_is_the_same(load, twin):
    params = load(sizes=[1, 2], batch_size=3)
    params.num_classes = 4
    again = twin(params)
    assert (again.sizes, again.batch_size, again.num_classes) == ([1, 2], 3, 4)
    assert again.learning_rate == params.learning_rate
    assert again.learned() == params.learned()
    assert not hasattr(again, "depth")


def test_a_deep_copy_goes_its_own_way(load):
    params = load(sizes=[1, 2])
    again = copy.deepcopy(params)
    again.sizes.append(3)
    again.width = 7
    assert params.sizes == [1, 2]
    assert not hasattr(params, "width")


def test_vars_and_dict_are_the_values(load):
    params = load(width=8)
    assert vars(params) == params.dict == {"width": 8}
    params.dict["depth"] = 2
    vars(params)["height"] = 3
    assert (params.depth, params.height) == (2, 3)


# The command line


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("learning_rate=1e-2", "learning_rate", 0.01),
        ("num_channels=64", "num_channels", 64),
        ("optimizer=SGD", "optimizer", "SGD"),
        ("data_dir=data/a=b", "data_dir", "data/a=b"),
        ("channels_last=true", "channels_last", True),
        ("grad_clip=null", "grad_clip", None),
        ("betas=[0.9, 0.95]", "betas", [0.9, 0.95]),
        ('note="7"', "note", "7"),
        ("note=", "note", ""),
    ],
)
def test_a_setting_is_json_where_it_can_be_else_text(text, key, value):
    assert parse_setting(text) == (key, value)


@pytest.mark.parametrize("text", ["learning_rate", "=3", "", "learning_rate=NaN", "learning_rate=1e999"])
def test_a_setting_that_says_nothing_is_refused(text):
    with pytest.raises(UserError, match="--set"):
        parse_setting(text)
