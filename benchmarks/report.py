"""The report of 5,000 experiments: how long to write it, how large it is, how long to open, sort and filter it.

    python benchmarks/report.py [--experiments 5000] [--epochs 20] [--repeats 5]

Makes the folders itself, as a search over a learning rate and a dropout rate leaves them: no seed is repeated, so that
each has a row. Opening, sorting and filtering are timed inside a headless Chromium, which has to be installed, with its
chromedriver: from the start of loading to the first frame with the sorted table, and from a click on a heading, or a
word in the filter, to the first frame after it.
"""

import argparse
import itertools
import json
import math
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine.experiment import read_entries
from engine.report import write_report
from tests.support.browser import Browser, opened, why_no_browser

OPENED = """
const look = () => {
  if (!document.querySelector("#table tbody tr")) return requestAnimationFrame(look);
  setTimeout(() => { window.inSight = performance.now(); });  // since loading began
};
addEventListener("DOMContentLoaded", look);
"""
SORTED = """
const start = performance.now();
document.querySelector(`th:nth-child(${arguments[0]}) button`).click();
return new Promise(done => requestAnimationFrame(() => setTimeout(() => done(performance.now() - start))));
"""


FILTERED = """
const start = performance.now(), field = document.querySelector("#filter");
field.value = arguments[0];
field.dispatchEvent(new Event("input"));
return new Promise(done => requestAnimationFrame(() => setTimeout(() => done(performance.now() - start))));
"""
FILTERS = ("dropout_rate=0.2", "learning_rate>0.01 and not dropout_rate=0.4", "accuracy>0.9", "finished", "")


def make_experiments(parent: Path, number: int, epochs: int) -> None:
    """Folders as finished runs leave them, for what the report reads."""
    draw = random.Random(0)
    dropouts = (0.0, 0.2, 0.4, 0.6)
    rates = [10 ** draw.uniform(-4, -1) for _ in range(math.ceil(number / len(dropouts)))]
    for rate, dropout in itertools.islice(itertools.product(rates, dropouts), number):
        folder = parent / f"learning_rate={rate},dropout_rate={dropout}"
        folder.mkdir(parents=True)
        params = {"learning_rate": rate, "dropout_rate": dropout, "num_epochs": epochs}
        best = 0.98 - 0.05 * (math.log10(rate) + 2.5) ** 2 - 0.1 * abs(dropout - 0.2)
        means = [best * (1 - math.exp(-epoch / 3)) for epoch in range(1, epochs + 1)]
        rows = [make_row(epoch, mean + draw.gauss(0, 0.004)) for epoch, mean in enumerate(means, start=1)]
        record = {"params": params, "device": "cpu", "monitor": "accuracy", "mode": "max", "parameters": 71434}
        record |= {"git": {"commit": "a" * 40, "patch": "+ a line\n" * 100}, "versions": {"torch": "2.15.0"}}
        record |= {"code": {"model/net.py": "1234"}, "data": {"files": 1797, "bytes": 10**6, "sha256": "ff" * 32}}
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "run.json").write_text(json.dumps(record))
        (folder / "status.json").write_text('{"state": "finished"}')


def make_row(epoch: int, accuracy: float) -> dict[str, float]:
    """A line of `metrics.jsonl`."""
    scores = {"accuracy": accuracy, "loss": 2.3 * (1 - accuracy)}
    val, train = ({f"{part}_{name}": value for name, value in scores.items()} for part in ("val", "train"))
    cost = {"seconds": 2.5 * epoch, "examples_per_second": 850.0}
    return {"epoch": epoch, **train, **val, "learning_rate": 0.001, **cost}


def time_page(browser: Browser, page: Path) -> tuple[float, float, float]:
    """Seconds until the table is in sight, until it is sorted anew, and until it is filtered."""
    browser.open(page)
    browser.wait("window.inSight")
    first = browser.run("return window.inSight")
    browser.wait("window.Plotly")  # all is unpacked
    sorts = [browser.run(SORTED, column) for column in (5, 6, 5, 1)]
    filters = [browser.run(FILTERED, text) for text in FILTERS]
    return first / 1000, statistics.median(sorts) / 1000, max(filters) / 1000


def main() -> None:
    """Print the medians beside their goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        parent = Path(folder, "search")
        make_experiments(parent, options.experiments, options.epochs)
        start, cpu = time.perf_counter(), time.process_time()
        page = write_report(parent, read_entries(parent))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        size = page.stat().st_size / 1e6
        print(f"written in {seconds:.1f} s, {cpu:.1f} s of them computing (goal 10 s); {size:.1f} MB (goal 6 MB)")
        if missing := why_no_browser():
            sys.exit(f"the page cannot be timed: {missing}")
        with opened(Path(folder, "profile")) as browser:
            browser.command("Page.addScriptToEvaluateOnNewDocument", source=OPENED)
            times = [time_page(browser, page) for _ in range(options.repeats)]
    shown, sorted_again, filtered = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"opened, its table sorted and in sight: {shown:.2f} s (goal 1 s)")
    print(f"sorted by a click: {sorted_again:.2f} s; the slowest filter: {filtered:.2f} s (goal 1 s)")


if __name__ == "__main__":
    main()
