"""Every notebook runs from its first cell to its last, and is saved with what it showed."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
SIZE_BYTES_MAX = 600_000
PARTS = ("**Question.**", "redict", "What do you expect", "## Exercise", "<details>", "## Sources")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_runs_without_an_error(path: Path) -> None:
    """A copy in memory, so that the saved outputs stay; nbclient raises CellExecutionError at the first cell that fails."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}})
    client.execute()
    shown = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.outputs]
    assert len(shown) >= 5
    errors = [out for cell in shown for out in cell.outputs if out.output_type == "error" or out.get("name") == "stderr"]
    assert not errors


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_is_saved_with_outputs_and_figures(path: Path) -> None:
    """It can be read where nothing runs: outputs in order, at least one figure, below 600 kB, no path of anybody's machine."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run notebooks/write.py"
    kinds = {kind for cell in code for out in cell.outputs for kind in out.get("data", {})}
    assert kinds & {"image/svg+xml", "image/png"}, "save at least one figure"
    assert path.stat().st_size < SIZE_BYTES_MAX
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(/home|/work|/root|/tmp|/Users)/|C:\\\\", text), "an output names a path of the machine it ran on"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_asks_lets_predict_and_ends_with_an_exercise(path: Path) -> None:
    """STYLE rule 12: question, prediction first, what if, exercise with a folded solution, sources; in this order."""
    prose = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    places = [prose.find(part) for part in PARTS]
    assert -1 not in places, f"{path.name} lacks {[part for part, at in zip(PARTS, places, strict=True) if at == -1]}"
    assert places == sorted(places)


def test_every_notebook_is_in_the_index() -> None:
    """notebooks/README.md has a row for each, and no row for one that is not there."""
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| \[([^]]+\.ipynb)\]\(\1\) \| .+\?.* \|$", index, flags=re.MULTILINE)
    assert sorted(named) == [path.name for path in PATHS]
