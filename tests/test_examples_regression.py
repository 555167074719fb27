"""The smallest complete task: its batches, its two metrics over the split, and a whole run."""
# ruff: noqa: E402  # what may not be there can only be imported after a look

import csv
import shutil

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes

from tests.support.folders import checkpoint, history, read
from tests.support.scripts import ROOT

REGRESSION = ROOT / "examples" / "regression"
if not REGRESSION.is_dir():
    pytest.skip("the example is not there", allow_module_level=True)

from engine.errors import UserError
from engine.hyperparameters import load_params
from examples.regression.data_loader import fetch_dataloader, read_input
from examples.regression.net import Net, loss_fn

SPLITS = ("train", "val", "test")
BASE = REGRESSION / "experiments" / "base"


@pytest.fixture
def params():
    return load_params(BASE / "params.json")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The experiment as it is, trained and tested."""
    import evaluate
    import train

    folder = tmp_path_factory.mktemp("regression") / "base"
    train.main(["--model_dir", str(folder), "--from", str(BASE)])
    evaluate.main(["--model_dir", str(folder)])
    return folder


def table_of(loader):
    """All rows of a split, in the order of its data set."""
    return torch.column_stack(loader.dataset.tensors)


def test_every_patient_is_in_one_split_whatever_the_seed(params):
    loaders = fetch_dataloader(SPLITS, "none", params)
    tables = [table_of(loaders[split]) for split in SPLITS]
    assert [len(table) for table in tables] == [262, 90, 90]
    inputs, labels = load_diabetes(return_X_y=True, scaled=False)
    everything = np.column_stack([inputs, labels]).astype(np.float32)
    assert sorted(map(tuple, torch.cat(tables).tolist())) == sorted(map(tuple, everything.tolist()))
    torch.manual_seed(1)
    again = fetch_dataloader(["val"], "none", params)
    assert torch.equal(table_of(again["val"]), tables[1])


def test_only_training_batches_are_shuffled(params):
    loaders = fetch_dataloader(SPLITS, "none", params)
    for split in SPLITS:
        (first, _), *_ = loaders[split]
        assert len(first) == params.batch_size
        in_order = torch.equal(first, loaders[split].dataset.tensors[0][: len(first)])
        assert in_order == (split != "train")


def test_what_the_network_sees_is_as_large_as_1_by_the_training_data_alone(params):
    loaders = fetch_dataloader(SPLITS, "none", params)
    train = table_of(loaders["train"])
    assert params.mean == pytest.approx(train.mean(dim=0).tolist())
    net, seen = Net(params), []
    net.hidden.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        outputs = net(train[:, :-1])
        inner = net.output(torch.relu(net.hidden(seen[0])))[:, 0]
    torch.testing.assert_close(seen[0].mean(dim=0), torch.zeros(10), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen[0].std(dim=0), torch.ones(10), atol=1e-4, rtol=0)
    torch.testing.assert_close(outputs, inner * train[:, -1].std() + train[:, -1].mean())


def test_the_loss_is_the_mean_square_error():
    assert loss_fn(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 5.0])) == 4.5


def test_both_metrics_are_those_of_the_whole_split(base, params):
    labels = table_of(fetch_dataloader(["test"], "none", params)["test"])[:, -1].double()
    with (base / "predictions_test.csv").open() as file:
        predictions = torch.tensor([float(row["prediction"]) for row in csv.DictReader(file)]).double()
    scores = read(base, "metrics_test_best.json")
    squares = (predictions - labels).square()
    assert scores["rmse"] == pytest.approx(squares.mean().sqrt().item(), rel=1e-4)
    assert scores["loss"] == pytest.approx(scores["rmse"] ** 2, rel=1e-4)
    assert scores["r2"] == pytest.approx(1 - (squares.mean() / labels.var(correction=0)).item(), rel=1e-4)
    assert scores["rmse"] < 55
    assert scores["r2"] > 0.5


def test_rows_of_a_csv_file_are_predicted_as_those_of_the_split(base, params, tmp_path):
    import predict

    rows = table_of(fetch_dataloader(["test"], "none", params)["test"])[:, :-1].tolist()
    lines = ["age,sex,bmi,bp,s1,s2,s3,s4,s5,s6", *(",".join(map(repr, row)) for row in rows)]
    (tmp_path / "new.csv").write_text("\n".join(lines))
    given = predict.main(["--model_dir", str(base), str(tmp_path / "new.csv")])
    with (base / "predictions_test.csv").open() as file:
        assert given["prediction"] == pytest.approx(
            [float(row["prediction"]) for row in csv.DictReader(file)], rel=1e-5
        )
    assert given["file"][0] == f"{tmp_path}/new.csv:2"


@pytest.mark.parametrize("line", ["1,2,3,4,5,6,7,8,9,NA", "1,2,3,4,5,6,7,8,9,", "1;2;3;4;5;6;7;8;9;0", "1,2"])
def test_a_row_with_a_gap_is_told_by_its_line_and_not_taken_for_a_header(params, tmp_path, line):
    fetch_dataloader(["train"], "none", params)
    path = tmp_path / "new.csv"
    path.write_text(f"\ufeff1,2,3,4,5,6,7,8,9,0\n\n{line}\n", encoding="utf-8")
    rows = read_input(str(path), params)
    assert next(rows)[1].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    with pytest.raises(UserError, match=r"^line 3 is not 10 numbers"):
        next(rows)


def test_the_best_epoch_is_that_of_the_smallest_error(base):
    errors = [row["val_rmse"] for row in history(base)]
    assert checkpoint(base, "best")["epoch"] == errors.index(min(errors)) + 1
    assert read(base, "run.json")["mode"] == "min"


def test_a_copy_starts_a_project(tmp_path, script):
    shutil.copytree(REGRESSION, tmp_path / "model", ignore=shutil.ignore_patterns("__pycache__"))
    run = ["--model_dir", "experiments/first", "--from", "model/experiments/base", "--set", "task=model"]
    done = script("train", *run, "--set", "num_epochs=1", cwd=tmp_path)
    assert done.status == 0, done.stderr
    assert "model/net.py" in read(tmp_path / "experiments" / "first", "run.json")["code"]
    assert "WARNING" not in (tmp_path / "experiments" / "first" / "train.log").read_text()


def test_it_is_small():
    lines = sum(len((REGRESSION / name).read_text().splitlines()) for name in ("net.py", "data_loader.py"))
    assert lines <= 80  # as its README says
