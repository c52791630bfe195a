"""Executes notebooks/mmvid.ipynb as Colab does, with the run in miniature alone: in an empty FOLDER, from nothing
but the notebook. It clones this repository there and installs what it needs. By hand and in CI:

    pip install nbclient ipykernel
    JAX_PLATFORMS=cpu python tests/execute_notebook.py FOLDER
"""

import pathlib
import re
import sys

import nbclient
import nbformat

ROOT = pathlib.Path(__file__).resolve().parents[1]


def filled(notebook, values):
    """The notebook with the fields of its forms filled in: {name: value}."""
    for name, value in values.items():
        field = re.compile(rf"^{name} = .*(?=  # @param)", re.M)
        [cell] = [cell for cell in notebook.cells if field.search(cell.source)]
        cell.source = field.sub(lambda _, line=f"{name} = {value!r}": line, cell.source)
    return notebook


def told(cell):
    """What a cell has printed."""
    return "".join(output.get("text", "") for output in cell.get("outputs", ()))


def main(folder):
    """Executes the notebook. Raises nbclient's CellExecutionError where a cell fails."""
    notebook = nbformat.read(ROOT / "notebooks" / "mmvid.ipynb", as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    folder.mkdir(parents=True)
    values = {"REPOSITORY": ROOT.as_uri(), "KEEP": str(folder / "kept"), "WHOLE": False}
    client = nbclient.NotebookClient(
        filled(notebook, values),
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        on_cell_executed=lambda cell, **_: print(told(cell), flush=True),
    )
    client.execute()
    shown = [output.data["text/html"] for cell in notebook.cells for output in cell.get("outputs", ())
             if "text/html" in output.get("data", {})]  # fmt: skip
    assert len(shown) == 1 and "<iframe srcdoc=" in shown[0], "the report was not shown"


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).resolve())
