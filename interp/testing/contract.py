"""`check_analysis`: an analysis held to its contract, for tests here and in plug-ins."""

import importlib.util
import inspect
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import numpy as np
import torch
import xarray as xr

from interp.analysis import Analysis, Scale, analyze, find, result_path
from interp.experiment import ModelConfig, Operations, Task, json_values
from interp.mathematics.sketch import COMBINATIONS
from interp.models import BLOCK, initial_weights
from interp.runs import Checkpoint, Run, RunWriter, noted_observations, open_run, write_observed
from interp.testing.constructed import Neuron, circuit_model, circuit_neurons, circuit_weights


def check_analysis(analysis: str | ModuleType) -> None:
    """Run an analysis, by name or as an imported module, over small untrained and constructed networks, for an odd p
    and for an even one whose split is unknown; one that asks for several operations, over networks of two. Raises
    AssertionError, saying what to mend, unless it keeps the contract of CONTRIBUTING.

    >>> check_analysis(ModuleType("mine", doc="Mine. What does it ask?"))
    Traceback (most recent call last):
        ...
    AssertionError: the analysis 'mine' breaks its contract: REFERENCE must say where the measure comes from
    """
    subject = find(analysis) if isinstance(analysis, str) else Analysis(analysis.__name__.rpartition(".")[2], analysis)
    _check_module(subject)
    fresh = _imported_again(subject.module)
    pizza, clock = circuit_neurons([1, 2]), circuit_neurons([1, 2], per_frequency=16, circuit="clock")
    tasks = (Task(7, train_fraction=0.5), pizza), (Task(8, split="unknown"), clock)
    if subject.asks == "operations":
        tasks = (Operations(7, train_fraction=(0.5,)), None), (Operations(8, ("multiply", "random")), None)
    for task, neurons in tasks:
        with tempfile.TemporaryDirectory() as folder:
            run = _small_run(Path(folder) / "run", task, neurons, observed="gradients" in subject.observes)
            if subject.of_run:
                _check_result(subject, subject.function(run))
            else:
                _check_measure(subject, list(run))
            result = analyze(run, [subject])[subject.name]
            _check_result(subject, result)
            stored = analyze(run, [subject])[subject.name]
            _require(subject, _same(stored, result), "its result does not come back from NetCDF as it was")
            result_path(run.path, run.hash, subject.name).unlink()
            again = analyze(open_run(run.path), [subject])[subject.name]
            _require(
                subject,
                _same(again, result),
                "a second time its result is another; draw random numbers from a fixed seed",
            )
        # The run is gone now: what summary and plot say, they say of the result.
        _check_telling(subject, fresh, result, stored, drawn=task.split_known)


def _require(analysis: Analysis, condition: Any, complaint: str) -> None:
    if not condition:
        raise AssertionError(f"the analysis {analysis.name!r} breaks its contract: {complaint}")


def _check_module(analysis: Analysis) -> None:
    module = analysis.module
    title = (module.__doc__ or "").partition("\n")[0]
    _require(
        analysis, title.strip() and len(title) <= 140, "the module needs a docstring whose first line is its title"
    )
    reference = getattr(module, "REFERENCE", None)
    _require(analysis, isinstance(reference, str) and reference, "REFERENCE must say where the measure comes from")
    _require(
        analysis,
        hasattr(module, "measure") != hasattr(module, "compute"),
        "it needs measure(checkpoint) or compute(run), not both",
    )
    for name in ("summary", "plot"):
        taken = inspect.signature(getattr(module, name)).parameters if hasattr(module, name) else ()
        _require(analysis, len(taken) == 1, f"it needs {name}(result), which sees nothing but the result")
    first, *others = inspect.signature(analysis.function).parameters.values()
    sound = all(other.kind is other.KEYWORD_ONLY and other.default is not other.empty for other in others)
    _require(
        analysis,
        sound and first.default is first.empty,
        "all parameters after the first must be keyword-only and have defaults",
    )
    scales = getattr(module, "SCALES", {})
    sound = isinstance(scales, dict) and set(scales.values()) <= set(get_args(Scale))
    _require(analysis, sound, f"SCALES must name one of {', '.join(get_args(Scale))} for each of its names")
    _require(analysis, _strict_json(analysis.parameters), "the defaults of its parameters must be JSON values")


def _check_measure(analysis: Analysis, checkpoints: Sequence[Checkpoint]) -> None:
    shapes = []
    for checkpoint in checkpoints:
        before = [tensor.clone() for tensor in (*checkpoint.weights.values(), *checkpoint.activations)]
        row = analysis.function(checkpoint)
        after = (*checkpoint.weights.values(), *checkpoint.activations)
        _require(
            analysis, all(map(torch.equal, before, after)), "it changes the weights or activations that it is given"
        )
        _check_result(analysis, row)
        _require(
            analysis,
            "step" not in row.dims,
            "measure sees one checkpoint; the dimension step is added to what it gives",
        )
        shapes.append({name: (value.dims, value.shape, value.dtype) for name, value in row.variables.items()})
    _require(
        analysis,
        all(shape == shapes[0] for shape in shapes),
        f"its shapes or types differ between checkpoints: {shapes}",
    )


def _check_result(analysis: Analysis, result: Any) -> None:
    _require(analysis, isinstance(result, xr.Dataset), f"it must give an xarray.Dataset, not {type(result).__name__}")
    _require(
        analysis,
        1 <= len(result.data_vars) <= 8,
        f"it gives {len(result.data_vars)} variables; 1 to 8 is what a person can read",
    )
    for dimension, size in result.sizes.items():
        _require(analysis, dimension in result.coords, f"the dimension {dimension!r} has no coordinate")
        _require(analysis, size > 0, f"the dimension {dimension!r} is empty")
    for name, variable in result.variables.items():
        for attribute in ("units", "long_name"):
            _require(
                analysis, isinstance(variable.attrs.get(attribute), str), f"the variable {name!r} has no {attribute}"
            )
        sound = variable.dtype in (np.float32, np.float64, np.int32, np.bool_) or variable.dtype.kind == "U"
        _require(
            analysis, sound, f"{name!r} has type {variable.dtype}; results are float32, float64, int32, bool or strings"
        )
    axes = {frozenset(map(str, value.dims)) - {"step"} for value in result.data_vars.values()}
    for named in map(frozenset, analysis.tables):
        _require(analysis, named in axes, f"TABLES names the axes {', '.join(sorted(named))}, which no variable has")
    sound = all(isinstance(value, str | int | float | np.number) for value in result.attrs.values())
    _require(analysis, sound, "attributes must be numbers and strings; put what is nested into one JSON string")


def _check_telling(
    analysis: Analysis, fresh: ModuleType, result: xr.Dataset, stored: xr.Dataset, *, drawn: bool
) -> None:
    import plotly.graph_objects as go

    before = result.copy(deep=True)
    headline, figure = analysis.module.summary(result), analysis.module.plot(result)
    _require(
        analysis,
        isinstance(headline, dict) and _strict_json(json_values(headline)),
        f"summary must give JSON values, or numbers that are not finite: {headline}",
    )
    _require(
        analysis,
        isinstance(figure, go.Figure) and (figure.data or not drawn),
        "plot must give a plotly figure with something in it",
    )
    _require(analysis, _same(result, before), "summary or plot changes the result")
    _require(
        analysis,
        json_values(fresh.summary(stored)) == json_values(headline),
        "its summary depends on more than the result",
    )
    _require(analysis, fresh.plot(stored).to_json() == figure.to_json(), "its figure depends on more than the result")


def _same(one: xr.Dataset, other: xr.Dataset) -> bool:
    return one.identical(other) and all(one[name].dtype == other[name].dtype for name in one.variables)


def _strict_json(value: Any) -> bool:
    try:
        return json.loads(json.dumps(value, allow_nan=False)) == value
    except (TypeError, ValueError):
        return False


def _imported_again(module: ModuleType) -> ModuleType:
    """The module as if just imported: it remembers nothing of what the other one has seen."""
    specification = importlib.util.spec_from_file_location(module.__name__, module.__file__)
    assert specification is not None
    assert specification.loader is not None
    fresh = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(fresh)
    return fresh


def _small_run(path: Path, task: Task | Operations, neurons: Sequence[Neuron] | None, *, observed: bool = False) -> Run:
    """An untrained network at step 0, the same with half its weights at step 1, and a planted circuit at step 2, or
    without `neurons` another untrained network; no metrics. What was `observed` of its gradients is noise."""
    model = ModelConfig(d_model=8, n_heads=2, d_mlp=12, prompt="aob=") if neurons is None else circuit_model(neurons)
    start = initial_weights(model, task.sizes)
    if neurons is None or isinstance(task, Operations):
        last = initial_weights(replace(model, seed=1), task.sizes)
    else:
        last = circuit_weights(task, model, neurons)
    noted = noted_observations("gradients") if observed else None
    with RunWriter.create(path, task, model, noted=noted) as writer:
        if observed:
            noise = torch.randn(BLOCK, len(start), COMBINATIONS, generator=torch.Generator().manual_seed(0))
            write_observed(writer, {"gradients": {0: noise}})
        writer.append(0, start)
        writer.append(1, {name: weight / 2 for name, weight in start.items()})
        writer.append(2, last)
    return open_run(path)
