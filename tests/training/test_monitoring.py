"""What a run says of itself while it goes on."""

import json
import time
from types import SimpleNamespace

import train
from engine.experiment import list_files


def test_the_time_of_listing_the_data_is_the_run_s_and_not_that_of_its_training(points, monkeypatch):
    """By a clock that the listing puts forward by a day; there are 200 examples to train on."""
    ahead = 0.0

    def slow(data_dir):
        nonlocal ahead
        ahead += 86_400
        return list_files(data_dir)

    clock = SimpleNamespace(perf_counter=lambda: time.perf_counter() + ahead)
    monkeypatch.setattr("engine.training.monitoring.list_files", slow)
    monkeypatch.setattr("engine.training.monitoring.time", clock)
    folder = points(num_epochs=1)
    train.main(["--model_dir", str(folder)])
    row = json.loads((folder / "metrics.jsonl").read_text())
    assert row["seconds"] > 86_400
    assert row["examples_per_second"] > 200 / 86_400 * 2
