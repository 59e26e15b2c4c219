"""The experiments there are, by name: the files of this folder that have a DESIGN.

Each has TITLE, REFERENCE, DESIGN and FULL, and grid, measure, failed_precondition, predictions and plot. One that
trains what no run of a grid can be has `beyond_grid` too: from the measured result, the runs, the design and the folder
to the result with that in it. One with numbers that belong to no single prediction has `numbers`, from the result to
the "numbers" of summary.json.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from interp.errors import unknown_name

# Found in their sources: to list them none needs to be loaded.
NAMES = tuple(
    path.stem.replace("_", "-")
    for path in sorted(Path(__file__).parent.glob("*.py"))
    if "\nDESIGN = " in path.read_text("utf-8")
)


def find(name: str) -> ModuleType:
    """The module of an experiment, by name."""
    if name not in NAMES:
        raise unknown_name("experiment", name, NAMES)
    return import_module(f"interp.studies.{name.replace('-', '_')}")
