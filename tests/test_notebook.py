"""`docs/notebook.ipynb`, run from its first cell to its last in a kernel of Jupyter, as somebody would who opens it."""

import json

import pytest

from tests.support.scripts import ROOT
from tests.test_structure import copy_of_the_tree, is_shipped

nbformat = pytest.importorskip("nbformat", reason="pip install nbclient ipykernel")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not (NOTEBOOK.is_file() and is_shipped), reason="another task, or no notebook"),
]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook after it was run in a copy of the project, and that copy."""
    tree = copy_of_the_tree(tmp_path_factory.mktemp("notebook"))
    notebook = nbformat.read(tree / "docs" / "notebook.ipynb", as_version=4)
    resources = {"metadata": {"path": str(tree / "docs")}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    return notebook, tree


def result(notebook, start):
    """What the cell that contains a text shows last."""
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code" and start in cell.source)
    return next(output for output in cell.outputs if output.output_type == "execute_result").data["text/plain"]


@pytest.mark.slow
def test_all_cells_run_and_the_scores_shown_are_those_in_the_folder(executed):
    notebook, tree = executed
    folder = tree / "experiments" / "notebook"
    for call, name in (("train.main", "metrics_val_best_weights.json"), ("evaluate.main", "metrics_test_best.json")):
        assert eval(result(notebook, call)) == json.loads((folder / name).read_text())
    assert "right" in result(notebook, "load_experiment")
    assert json.loads((folder / "run.json").read_text())["command"].startswith("train.py --model_dir")


@pytest.mark.slow
def test_nothing_is_said_on_stderr_but_bars_that_go_on_in_one_line(executed):
    notebook, _ = executed
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                assert output.text.startswith("\r"), output.text


def test_the_notebook_is_kept_without_outputs_and_begins_with_what_colab_needs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells)
    first = "".join(cells[0]["source"])
    assert "google.colab" in first
    assert "pip install --quiet -r requirements.txt" in first
