"""The analyses: one file, one question. Discovered by `interp.analysis`; CONTRIBUTING shows how to add one.

`from interp.analyses import neuron_periodicity` finds an analysis by its own name, whichever folder it is in.
"""

from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """An analysis by name."""
    from importlib import import_module
    from pkgutil import walk_packages

    for info in walk_packages(__path__, f"{__name__}."):
        if not info.ispkg and info.name.rpartition(".")[2] == name:
            return import_module(info.name)
    raise AttributeError(f"module {__name__!r} has no analysis {name!r}")
