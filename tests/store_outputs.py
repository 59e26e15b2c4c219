"""Run a notebook of examples/ and store what its cells show, figures as images:

.venv/bin/python -m tests.store_outputs examples/memorize_or_generalize.ipynb
"""

import base64
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from tests.test_examples import run_cells


def output(shown: Any, number: int) -> dict[str, Any]:
    """What a notebook keeps of a value: its text, and its image or its HTML."""
    data: dict[str, Any] = {"text/plain": repr(shown).splitlines(keepends=True)}
    if hasattr(shown, "to_image"):
        image = shown.to_image("png", width=1000, height=shown.layout.height, scale=1)
        data = {"image/png": base64.b64encode(image).decode(), "text/plain": ["a figure"]}
    elif hasattr(shown, "_repr_html_"):
        data["text/html"] = shown._repr_html_().splitlines(keepends=True)
    return {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": data}


def store(path: Path) -> None:
    """Write the outputs of every code cell into the notebook."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    with contextlib.chdir(path.parent):
        shown = run_cells(Path(path.name))["shown"]
        for number, (cell, value) in enumerate(zip(code, shown, strict=True), 1):  # each of its cells shows something
            cell |= {"execution_count": number, "outputs": [output(value, number)]}
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    store(Path(sys.argv[1]))
