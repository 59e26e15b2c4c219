"""For tests, here and in plug-ins: networks with a planted circuit, and `check_analysis`, which holds an analysis to its contract.

A planted neuron j of frequency k answers to the phases s, t of its two inputs and speaks to the class of phase u:

    y_j = act(cos(w_k s − α_j) + cos(w_k t − β_j)),      logit(u) = strength · Σ_j y_j cos(w_k u − α_j − β_j)

With α = β at equal distances this is a pizza (Zhong et al. 2023, arXiv:2306.17844; for y = x² and N neurons per frequency exactly
N cos²(w_k(s−t)/2) cos w_k(s+t−u)); with β = 2α, and a head for each input, a clock, which can also tell the classes of an even p apart.
"""

import importlib.util
import inspect
import json
import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr

from interp.analysis import analyze, result_path
from interp.checkpoint import Checkpoint
from interp.discovery import Analysis, find
from interp.errors import InputError
from interp.experiment import Activation, ModelConfig
from interp.store import Run, open_run
from interp.task import Task
from interp.weights import Weights, initial_weights, weight_shapes
from interp.writer import RunWriter

# ---- networks with a planted circuit ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Neuron:
    """A planted neuron: its frequency k, and its phases α over the first and β over the second input, in radians."""

    frequency: int
    phase_a: float
    phase_b: float


def circuit_neurons(frequencies: Iterable[int], *, per_frequency: int = 9, circuit: Literal["pizza", "clock"] = "pizza") -> list[Neuron]:
    """The neurons of a circuit that adds: right on all pairs when the frequencies and p have no common divisor.

    A pizza needs an odd p and, per frequency, 3 neurons or from 5 on with `square`, an odd number from 5 on or any from 9 on with
    `relu`; a clock 8 or more with `square` and 16 or more with `relu`.
    """
    angles = [2 * math.pi * j / per_frequency for j in range(per_frequency)]
    return [Neuron(k, angle, angle if circuit == "pizza" else 2 * angle) for k in frequencies for angle in angles]


def circuit_model(neurons: Sequence[Neuron], activation: Activation = "relu") -> ModelConfig:
    """The smallest model that has room for these neurons."""
    width, heads = 2 * len({neuron.frequency for neuron in neurons}), 1 if _same_phases(neurons) else 2
    d_model = 2 * width if heads == 1 else 3 * width + 2
    return ModelConfig(d_model=d_model, n_heads=heads, d_head=width, d_mlp=len(neurons), activation=activation)


def circuit_weights(task: Task, model: ModelConfig, neurons: Sequence[Neuron], *, strength: float = 10.0) -> Weights:
    """float64 weights of a one-layer `ab=` network with these neurons. What the model has left over is zero: its neurons are dead.

    Neurons with α = β stand behind one head of uniform attention (W_Q = W_K = 0), others behind two, each of which reads one input.
    Raises InputError for a model without room and for an operation that is no addition in disguise.
    """
    phase, needed, uniform = task.phase, circuit_model(neurons), _same_phases(neurons)
    for name in ("d_model", "n_heads", "head_size", "d_mlp"):
        if getattr(model, name) < getattr(needed, name):
            raise InputError(f"this circuit needs {name} {getattr(needed, name)}, the model has {getattr(model, name)}")
    if (model.n_layers, model.prompt) != (1, "ab=") or not (uniform or model.attention_rate == 1):
        raise InputError("a circuit is planted in one layer that reads ab=; where each input has a head, with attention-rate 1")
    # Where the inputs do not play the same part (−, ÷), the second one's phase is minus that of its embedding.
    sign = 1.0 if np.array_equal(phase.rows, phase.columns) else -1.0
    if uniform and sign < 0:
        raise InputError(f"{task.operation} tells its inputs apart, and uniform attention does not; plant a clock")
    frequencies = sorted({neuron.frequency for neuron in neurons})
    width = 2 * len(frequencies)
    waves = _waves(frequencies, phase.order)  # [width, order]
    weights = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in weight_shapes(model, task.p).items()}
    W_E, W_pos, W_U = weights["embed.W_E"], weights["pos_embed.W_pos"], weights["unembed.W_U"]
    W_Q, W_K, W_V, W_O = (weights[f"blocks.0.attn.{name}"] for name in ("W_Q", "W_K", "W_V", "W_O"))
    W_in, W_out = weights["blocks.0.mlp.W_in"], weights["blocks.0.mlp.W_out"]
    W_E[torch.from_numpy(phase.rows), :width] = waves.T
    if uniform:
        spread = model.attention_rate / 3 + 1 - model.attention_rate
        W_V[0, :width, :width], W_O[0, :width, :width] = torch.eye(width).double() / spread, torch.eye(width)
    else:
        place = 3 * width
        W_pos[0, place], W_pos[1, place + 1], W_E[-1, place] = 1, 1, -1
        for head in range(2):
            # The score is 100 at the head's own position, and at most 0 elsewhere: a softmax of exactly one.
            W_Q[head, place, 0], W_K[head, place + head, 0] = -100 * math.sqrt(model.head_size), 1
            turn = torch.tensor([1.0, sign if head else 1.0]).repeat(len(frequencies)).double()
            W_V[head, :width, :width], W_O[head, :width, head * width : (head + 1) * width] = turn.diag(), torch.eye(width)
    output = width if uniform else 2 * width
    for j, neuron in enumerate(neurons):
        at, total = 2 * frequencies.index(neuron.frequency), neuron.phase_a + neuron.phase_b
        W_in[at : at + 2, j] = _direction(neuron.phase_a)
        if not uniform:
            W_in[width + at : width + at + 2, j] = _direction(neuron.phase_b)
        W_out[j, output + at : output + at + 2] = strength * _direction(total)
    W_U[output : output + width, torch.from_numpy(phase.classes)] = waves
    return weights


def circuit_checkpoint(
    task: Task, neurons: Sequence[Neuron], *, activation: Activation = "relu", strength: float = 10.0, step: int = -1
) -> Checkpoint:
    """A checkpoint of the smallest network with these neurons."""
    model = circuit_model(neurons, activation)
    return Checkpoint(step, circuit_weights(task, model, neurons, strength=strength), task, model)


def _same_phases(neurons: Sequence[Neuron]) -> bool:
    return all(neuron.phase_a == neuron.phase_b for neuron in neurons)


def _waves(frequencies: Sequence[int], n: int) -> torch.Tensor:
    """cos w_k t and sin w_k t for every frequency, one below the other."""
    t = torch.arange(n, dtype=torch.float64)
    return torch.cat([torch.stack([(2 * math.pi * k * t / n).cos(), (2 * math.pi * k * t / n).sin()]) for k in frequencies])


def _direction(angle: float) -> torch.Tensor:
    return torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)


# ---- the contract of an analysis -------------------------------------------------------------------------------------


def check_analysis(analysis: str | ModuleType) -> None:
    """Run an analysis, by name or as an imported module, over small untrained and constructed networks, for an odd p and for an even
    one whose split is unknown. Raises AssertionError, saying what to mend, unless it keeps the contract of CONTRIBUTING."""
    subject = find(analysis) if isinstance(analysis, str) else Analysis(analysis.__name__.rpartition(".")[2], analysis)
    _check_module(subject)
    fresh = _imported_again(subject.module)
    pizza, clock = circuit_neurons([1, 2]), circuit_neurons([1, 2], per_frequency=16, circuit="clock")
    for task, neurons in ((Task(7, train_fraction=0.5), pizza), (Task(8, split="unknown"), clock)):
        with tempfile.TemporaryDirectory() as folder:
            run = _small_run(Path(folder) / "run", task, neurons)
            if subject.of_run:
                _check_result(subject, subject.function(run))
            else:
                _check_measure(subject, list(run))
            result = analyze(run, [subject])[subject.name]
            _check_result(subject, result)
            stored = analyze(run, [subject])[subject.name]
            _require(subject, _same(stored, result), "its result does not come back from NetCDF as it was")
            result_path(run, subject.name).unlink()
            again = analyze(open_run(run.path), [subject])[subject.name]
            _require(subject, _same(again, result), "a second time its result is another; draw random numbers from a fixed seed")
        # The run is gone now: what summary and plot say, they say of the result.
        _check_telling(subject, fresh, result, stored, drawn=task.split_known)


def _require(analysis: Analysis, condition: Any, complaint: str) -> None:
    if not condition:
        raise AssertionError(f"the analysis {analysis.name!r} breaks its contract: {complaint}")


def _check_module(analysis: Analysis) -> None:
    module = analysis.module
    title = (module.__doc__ or "").partition("\n")[0]
    _require(analysis, title.strip() and len(title) <= 140, "the module needs a docstring whose first line is its title")
    reference = getattr(module, "REFERENCE", None)
    _require(analysis, isinstance(reference, str) and reference, "REFERENCE must say where the measure comes from")
    _require(analysis, hasattr(module, "measure") != hasattr(module, "compute"), "it needs measure(checkpoint) or compute(run), not both")
    for name in ("summary", "plot"):
        taken = inspect.signature(getattr(module, name)).parameters if hasattr(module, name) else ()
        _require(analysis, len(taken) == 1, f"it needs {name}(result), which sees nothing but the result")
    first, *others = inspect.signature(analysis.function).parameters.values()
    sound = all(other.kind is other.KEYWORD_ONLY and other.default is not other.empty for other in others)
    _require(analysis, sound and first.default is first.empty, "all parameters after the first must be keyword-only and have defaults")
    _require(analysis, _strict_json(analysis.parameters), "the defaults of its parameters must be JSON values")


def _check_measure(analysis: Analysis, checkpoints: Sequence[Checkpoint]) -> None:
    shapes = []
    for checkpoint in checkpoints:
        before = [tensor.clone() for tensor in (*checkpoint.weights.values(), *checkpoint.activations)]
        row = analysis.function(checkpoint)
        after = (*checkpoint.weights.values(), *checkpoint.activations)
        _require(analysis, all(map(torch.equal, before, after)), "it changes the weights or activations that it is given")
        _check_result(analysis, row)
        _require(analysis, "step" not in row.dims, "measure sees one checkpoint; the dimension step is added to what it gives")
        shapes.append({name: (value.dims, value.shape, value.dtype) for name, value in row.variables.items()})
    _require(analysis, all(shape == shapes[0] for shape in shapes), f"its shapes or types differ between checkpoints: {shapes}")


def _check_result(analysis: Analysis, result: Any) -> None:
    _require(analysis, isinstance(result, xr.Dataset), f"it must give an xarray.Dataset, not {type(result).__name__}")
    _require(analysis, 1 <= len(result.data_vars) <= 8, f"it gives {len(result.data_vars)} variables; 1 to 8 is what a person can read")
    for dimension, size in result.sizes.items():
        _require(analysis, dimension in result.coords, f"the dimension {dimension!r} has no coordinate")
        _require(analysis, size > 0, f"the dimension {dimension!r} is empty")
    for name, variable in result.variables.items():
        for attribute in ("units", "long_name"):
            _require(analysis, isinstance(variable.attrs.get(attribute), str), f"the variable {name!r} has no {attribute}")
        sound = variable.dtype in (np.float32, np.float64, np.int32, np.bool_) or variable.dtype.kind == "U"
        _require(analysis, sound, f"{name!r} has type {variable.dtype}; results are float32, float64, int32, bool or strings")
    sound = all(isinstance(value, str | int | float | np.number) for value in result.attrs.values())
    _require(analysis, sound, "attributes must be numbers and strings; put what is nested into one JSON string")


def _check_telling(analysis: Analysis, fresh: ModuleType, result: xr.Dataset, stored: xr.Dataset, *, drawn: bool) -> None:
    import plotly.graph_objects as go

    before = result.copy(deep=True)
    headline, figure = analysis.module.summary(result), analysis.module.plot(result)
    _require(analysis, isinstance(headline, dict) and _strict_json(headline), f"summary must give JSON values, None for NaN: {headline}")
    _require(analysis, isinstance(figure, go.Figure) and (figure.data or not drawn), "plot must give a plotly figure with something in it")
    _require(analysis, _same(result, before), "summary or plot changes the result")
    _require(analysis, fresh.summary(stored) == headline, "its summary depends on more than the result")
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
    assert specification is not None and specification.loader is not None  # noqa: PT018 (for the type checker)
    fresh = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(fresh)
    return fresh


def _small_run(path: Path, task: Task, neurons: Sequence[Neuron]) -> Run:
    """An untrained network at step 0, the same with half its weights at step 1, and a planted circuit at step 2; no metrics."""
    model = circuit_model(neurons)
    start = initial_weights(model, task.p)
    with RunWriter.create(path, task, model) as writer:
        writer.append(0, start)
        writer.append(1, {name: weight / 2 for name, weight in start.items()})
        writer.append(2, circuit_weights(task, model, neurons))
    return open_run(path)
