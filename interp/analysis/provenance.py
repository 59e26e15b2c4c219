"""What a result was computed from: the parameters, the weights, the code and the run that it names."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from interp.analysis.contract import Analysis
from interp.analysis.places import result_path
from interp.experiment import Task, hash_of
from interp.runs import Run, weights_digest


def step_axis(steps: Any) -> xr.Variable:
    """The coordinate `step` of a result."""
    return xr.Variable("step", np.array(steps, dtype=np.int32), {"long_name": "step", "units": "updates"})


def resolved_parameters(run: Run, analysis: Analysis, given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of an analysis: those given, the defaults of the others, and the key frequencies of the run."""
    resolved = analysis.resolve(dict(given))
    if resolved.get("key_frequencies", ()) is None and isinstance(run.task, Task):
        resolved["key_frequencies"] = run.key_frequencies
    return resolved


def path_of(run: Run, analysis: Analysis, parameters: Mapping[str, Any]) -> Path:
    """Where the result with these parameters, all of them, is kept."""
    defaults = resolved_parameters(run, analysis, {})
    others = {name: value for name, value in parameters.items() if hash_of(value) != hash_of(defaults[name])}
    return result_path(run.path, run.hash, analysis.name, others)


def digests_of(run: Run) -> dict[int, str]:
    """The digest of the weights of every step, from metrics.jsonl where it stands there."""
    logged = {row["step"]: row["weights"] for row in run.rows if "weights" in row}
    # A recorded checkpoint that is not there stays in the list: reading it will say that it is missing.
    steps = sorted({*run.steps, *(logged.keys() - run.thinned)})
    return {step: logged[step] if step in logged else weights_digest(run[step].weights) for step in steps}


def identity_of_rows(run: Run, analysis: Analysis, parameters: Mapping[str, Any]) -> str:
    """What all rows of the result of a `measure` have in common; the weights are told apart row by row."""
    return hash_of([analysis.name, analysis.version, dict(parameters), run.hash])


def identity_of_whole(run: Run, analysis: Analysis, parameters: Mapping[str, Any], digests: Mapping[int, str]) -> str:
    """What the result of an analysis of a whole run was computed from."""
    return hash_of([analysis.name, analysis.version, dict(parameters), run.hash, list(digests.items()), run.rows])


def provenance_in_run(run: Run, analysis: Analysis, parameters: Mapping[str, Any]) -> dict[str, str | int]:
    """What a result of a run says of itself: `provenance`, and the key frequencies of the run."""
    circuit = run.last_circuit if isinstance(run.task, Task) else None
    key, step = ([], -1) if circuit is None else (circuit.key_frequencies, circuit.step)
    known = {"key_frequencies": json.dumps(key), "key_frequencies_of_step": step}
    return provenance(analysis, parameters, run.hash) | known


def provenance(analysis: Analysis, parameters: Mapping[str, Any], run_hash: str) -> dict[str, str | int]:
    """What every result says of itself, in its attributes."""
    return {
        "analysis": analysis.name,
        "title": analysis.title,
        "reference": analysis.module.REFERENCE,
        "version": analysis.version,
        "interp": version("interp"),
        "run": run_hash,
        "parameters": json.dumps(dict(parameters), sort_keys=True),
    }
