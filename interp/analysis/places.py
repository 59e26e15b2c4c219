"""Where what is computed of a run is kept: with the run, or in the user's cache directory for a run that cannot be
written to."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interp.experiment import hash_of


def result_path(run: Path, run_hash: str, name: str, parameters: Mapping[str, Any] | None = None) -> Path:
    """Where a result is kept. `parameters` are those that are not the defaults; every choice of them has a file of its
    own.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> result_path(run.path, run.hash, "neuron_periodicity").name
    'neuron_periodicity.nc'
    >>> result_path(run.path, run.hash, "neuron_periodicity", {"threshold": 0.9}).name
    'neuron_periodicity-c0408b.nc'
    """
    return _folder(run, run_hash) / f"{_named(name, parameters)}.nc"


def answer_path(run: Path, run_hash: str, verb: str, asked: Mapping[str, Any]) -> Path:
    """Where the answer of a verb is kept, of what was `asked` beside its defaults.

    >>> answer_path(Path("run"), "01ec037565cf10de", "explain", {"step": 400}).name
    'explain-ce1950.answer'
    """
    return _folder(run, run_hash) / f"{_named(verb, asked)}.answer"


def _named(name: str, parameters: Mapping[str, Any] | None) -> str:
    return f"{name}-{hash_of(dict(parameters))[:6]}" if parameters else name


def _folder(run: Path, run_hash: str) -> Path:
    if os.access(run, os.W_OK):
        return run / "results"
    from platformdirs import user_cache_path

    return user_cache_path("interp") / run_hash
