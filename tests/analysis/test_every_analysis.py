"""Every analysis keeps the contract, and an analysis that does not is told so."""

import contextlib
import importlib.util
import inspect
import json
import re
import sys

import pytest

from interp.analysis import discover, measure_checkpoint
from interp.errors import InputError
from interp.experiment import Attention, Mlp, ModelConfig, Norm, Task
from interp.models import initial_weights
from interp.runs import Checkpoint
from interp.testing import check_analysis

GOOD = '''"""Loudness. How large are the logits of each class?

The root mean square over all pairs, √(mean logit²). It cannot tell whether they are right.
"""
import numpy as np
import plotly.graph_objects as go
import xarray as xr

REFERENCE = "an example"

def measure(checkpoint, *, factor=1.0):
    values = factor * checkpoint.logits.double().square().mean((0, 1)).sqrt().numpy()
    classes = np.arange(len(values), dtype=np.int32)
    return xr.Dataset(
        {"loudness": ("class", values, {"units": "1", "long_name": "loudness"})},
        coords={"class": ("class", classes, {"units": "1", "long_name": "class c"})},
        attrs={"factor": factor},
    )

def summary(result):
    return {"loudest": float(result.loudness.values[-1].max())}

def plot(result):
    return go.Figure(go.Scatter(x=result.step.values, y=result.loudness.values.max(1)))
'''

SIZES = {"d_model": 8, "n_heads": 2, "d_mlp": 6}
AT_HAND = "coords={"
VALUES = "    values = "

BROKEN = {
    "no title": ('"""Loudness', '"""\nLoudness', "docstring whose first line is its title"),
    "a scale that there is not": (
        "REFERENCE =",
        'SCALES = {"loudest": "nats"}\nREFERENCE =',
        "SCALES must name one of",
    ),
    "no docstring": ('"""Loudness', 'x = """Loudness', "docstring whose first line is its title"),
    "no reference": ('"an example"', '""', "REFERENCE must say"),
    "nothing to compute": ("def measure", "def measured", r"needs measure\(checkpoint\) or compute\(run\)"),
    "two things to compute": ("REFERENCE", "def compute(run):\n    pass\nREFERENCE", r"or compute\(run\), not both"),
    "no plot": ("def plot", "def draw", r"needs plot\(result\)"),
    "a summary that asks for more": ("def summary(result)", "def summary(result, run)", r"needs summary\(result\)"),
    "a positional parameter": ("*, factor", "factor", "keyword-only and have defaults"),
    "a parameter without default": ("factor=1.0", "factor", "keyword-only and have defaults"),
    "a default that is no JSON": ("factor=1.0", "factor=(1.0,)", "must be JSON values"),
    "no dataset": ("return xr.Dataset(", "return dict(", "must give an xarray.Dataset, not dict"),
    "no variable": ('{"loudness": (', '{} and {"loudness": (', "gives 0 variables"),
    "too many variables": (
        '{"loudness": (',
        '{f"v{i}": ((), 0.0) for i in range(8)} | {"loudness": (',
        "gives 9 variables",
    ),
    "no coordinate": (AT_HAND, "coords={} and {", "'class' has no coordinate"),
    "an empty dimension": (
        AT_HAND,
        'coords={"x": ("x", np.empty(0), {"units": "1", "long_name": "x"})} | {',
        "'x' is empty",
    ),
    "no units": ('{"units": "1", "long_name": "loudness"}', '{"long_name": "loudness"}', "'loudness' has no units"),
    "no name of a coordinate": ('"long_name": "class c"', '"name": "class c"', "'class' has no long_name"),
    "64-bit integers": ("dtype=np.int32", "dtype=np.int64", "'class' has type int64"),
    "unsigned integers": ("values, {", "values.astype(np.uint8), {", "'loudness' has type uint8"),
    "complex numbers": ("values, {", "values.astype(complex), {", "'loudness' has type complex128"),
    "objects": ("values, {", "values.astype(object), {", "'loudness' has type object"),
    "a nested attribute": ('{"factor": factor}', '{"factor": [[factor]]}', "attributes must be numbers and strings"),
    "a step of its own": ('("class", values,', '(("class", "step"), values[:, None],', "'step' has no coordinate"),
    "a step of its own, with a coordinate": (
        AT_HAND,
        'coords={"step": ("step", np.zeros(1, np.int32), {"units": "1", "long_name": "x"})} | {',
        "the dimension step is added",
    ),
    "other shapes at other steps": (
        "    classes = ",
        "    values = values[: checkpoint.step + 2]\n    classes = ",
        "shapes or types differ",
    ),
    "other types at other steps": (
        "values, {",
        "values.astype([np.float32, np.float64][checkpoint.step % 2]), {",
        "types differ",
    ),
    "changed weights": (VALUES, "    checkpoint.W_U.mul_(2)\n    values = ", "changes the weights or activations"),
    "changed activations": (
        VALUES,
        "    checkpoint.neurons.zero_()\n    values = ",
        "changes the weights or activations",
    ),
    "chance": (VALUES, "    values = np.random.default_rng().uniform() * ", "a second time its result is another"),
    "a summary with arrays": (
        "float(result.loudness.values[-1].max())",
        "result.loudness.values[-1]",
        "summary must give JSON values",
    ),
    "a summary that is no mapping": (
        '{"loudest": float(result.loudness.values[-1].max())}',
        "[1]",
        "summary must give JSON values",
    ),
    "no figure": ("return go.Figure(", "return (", "plot must give a plotly figure"),
    "an empty figure": (
        "go.Figure(go.Scatter(x=result.step.values, y=result.loudness.values.max(1)))",
        "go.Figure()",
        "with something in it",
    ),
    "a changed result": (
        "def plot(result):",
        "def plot(result):\n    result.loudness.values[:] = 0",
        "changes the result",
    ),
    "a figure of what the module remembers": (
        "def plot(result):",
        "def plot(result):\n    result = result + len(SEEN)",
        "its figure depends on more than the result",
    ),
    "a summary of what the module remembers": (
        '{"loudest": ',
        '{"seen": len(SEEN), "loudest": ',
        "its summary depends on more",
    ),
}
REMEMBERS = ("REFERENCE =", "SEEN = []\nREFERENCE =", VALUES, "    SEEN.append(1)\n    values = ")


@pytest.fixture
def imported(tmp_path, monkeypatch):
    """A module from its source."""

    def load(source: str):
        (tmp_path / "loudness.py").write_text(source)
        specification = importlib.util.spec_from_file_location("loudness", tmp_path / "loudness.py")
        assert specification is not None
        module = importlib.util.module_from_spec(specification)
        monkeypatch.setitem(sys.modules, "loudness", module)
        specification.loader.exec_module(module)
        return module

    return load


@pytest.mark.parametrize("name", sorted(discover()))
def test_it_keeps_the_contract(name):
    check_analysis(name)


@pytest.mark.parametrize("name", sorted(name for name, analysis in discover().items() if not analysis.of_run))
@pytest.mark.parametrize(
    ("task", "model"),
    [
        (Task(5, "x2+y2"), ModelConfig(n_layers=2, d_model=8, n_heads=2, d_mlp=6, prompt="ab")),
        (Task(7, "divide"), ModelConfig(d_model=8, n_heads=2, d_mlp=6, activation="gelu", attention_rate=0.5)),
        (Task(6, "random"), ModelConfig(d_model=8, n_heads=2, d_mlp=6, activation="square", causal=False)),
        (Task(2), ModelConfig(d_model=4, n_heads=1, d_mlp=3)),
        (Task(7), ModelConfig(**SIZES, norm=Norm(kind="layer"), biases=True, prompt="^a+b=")),
        (Task(7), ModelConfig(**SIZES, norm=Norm(kind="rms", order="post"), mlp=Mlp(gated=True), activation="silu")),
        (
            Task(5),
            ModelConfig(**SIZES, tied=True, n_layers=2, vocabularies="two", attention=Attention(rotary_base=9.0)),
        ),
        (Task(7), ModelConfig(family="mlp", d_mlp=6, biases=True)),
        (Task(7), ModelConfig(family="mlp", d_mlp=6, biases=True, embedding="tied", d_model=8)),
        (Task(7), ModelConfig(family="mlp", n_layers=3, d_mlp=6, biases=True, activation="tanh")),
    ],
    ids=lambda given: given.operation if isinstance(given, Task) else given.prompt,
)
def test_it_runs_on_every_kind_of_network_or_says_why_not(name, task, model):
    analysis, checkpoint = discover()[name], Checkpoint(0, initial_weights(model, task.p), task, model)
    with contextlib.suppress(InputError):  # one line for a person is an answer; anything else is not
        result = measure_checkpoint(checkpoint, name)
        assert analysis.module.plot(result).data
        assert json.loads(json.dumps(analysis.summary(result), allow_nan=False)) == analysis.summary(result)


@pytest.mark.parametrize("name", sorted(discover()))
def test_its_first_line_is_a_title_and_it_says_what_it_cannot_show(name):
    text = inspect.getdoc(discover()[name].module) or ""
    assert ". " in text.splitlines()[0]
    assert re.search(r"\bcannot\b|\bdoes not (show|tell|say|mean)\b", text)


def test_a_good_analysis_passes(imported):
    check_analysis(imported(GOOD))


def test_a_summary_may_say_nan_and_numpy_numbers(imported):
    source = GOOD.replace('{"loudest"', '{1: np.float32("nan"), "steps": np.int64(3), "loudest"')
    assert source != GOOD
    check_analysis(imported(source))


@pytest.mark.parametrize("defect", BROKEN)
def test_a_broken_contract_is_found(imported, defect):
    old, new, complaint = BROKEN[defect]
    source = GOOD
    if "remembers" in defect:
        source = source.replace(*REMEMBERS[:2]).replace(*REMEMBERS[2:])
    assert source.count(old) == 1
    with pytest.raises(AssertionError, match="the analysis 'loudness' breaks its contract: .*" + complaint):
        check_analysis(imported(source.replace(old, new)))
