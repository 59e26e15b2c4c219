"""The experiments there are, by name."""

from importlib import import_module
from types import ModuleType

from interp.errors import unknown_name

# Each module has TITLE, REFERENCE, DESIGN and FULL, and grid, measure, predictions and plot.
NAMES = ("circuit-efficiency", "ungrokking", "semi-grokking", "data-fraction", "weight-decay")


def find(name: str) -> ModuleType:
    """The module of an experiment, by name."""
    if name not in NAMES:
        raise unknown_name("experiment", name, NAMES)
    return import_module(f"interp.studies.{name.replace('-', '_')}")
