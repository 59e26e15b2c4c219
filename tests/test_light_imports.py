"""What is loaded when: a fresh interpreter imports a module, and we look at what came along."""

import ast
import json
import subprocess
import sys
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

import interp

ROOT = Path(__file__).parent.parent

# What takes from a tenth of a second to several seconds to load.
HEAVY = frozenset(
    {
        "numpy",
        "torch",
        "xarray",
        "pandas",
        "scipy",
        "sklearn",
        "pydantic",
        "plotly",
        "transformer_lens",
        "transformers",
        "kaleido",
    }
)

# Each module that must stay light, and what of HEAVY it may load all the same.
LIGHT = {
    "interp": set(),
    "interp.errors": set(),
    "interp.figures": set(),
    "interp.cli": set(),
    **{f"interp.cli.commands.{path.stem}": {"numpy"} for path in (ROOT / "interp/cli/commands").glob("[a-z]*.py")},
    "interp.machine": set(),
    "interp.experiment": {"numpy"},
    # What a run is, and what was told of it before.
    **{
        f"interp.{module}": {"numpy"}
        for module in (
            *("runs.listing", "runs.description", "sweeps.record"),
            *("analysis.telling", "explanation.explaining", "pages.reporting"),
        )
    },
}

# The packages that are imported by their names alone.
FACES = sorted(
    path.parent.name
    for path in (ROOT / "interp").glob("*/__init__.py")
    if path.parent.name not in {"cli", "mathematics", "testing"}
)

# Computing never waits for drawing, nor for other people's models.
ONLY_WHEN_ASKED = frozenset({"plotly", "transformer_lens", "transformers", "kaleido", "wandb", "huggingface_hub"})


def loaded_after(statement: str) -> set[str]:
    """The top-level packages in memory after a statement in a fresh interpreter."""
    code = (
        f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    # -I: neither the environment nor the folder we stand in has a say in what is imported.
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", sorted(LIGHT))
def test_a_light_module_loads_nothing_heavy(module: str):
    assert loaded_after(f"import {module}") & HEAVY == LIGHT[module]


def test_numbers_are_computed_without_plotly_and_transformer_lens():
    below = {"mathematics", "experiment", "machine", "models", "figures", "training", "runs", "analysis", "sweeps"}
    files = [path.relative_to(ROOT) for package in below for path in (ROOT / "interp" / package).glob("*.py")]
    modules = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files]
    modules += [
        f"interp.analyses.{path.parent.name}.{path.stem}"
        for path in (ROOT / "analyses").glob("*/*.py")
        if path.stem != "__init__"
    ]
    assert {"interp.models.forward", "interp.analyses.norms.weight_norms"} <= set(modules)
    loaded = loaded_after("\n".join(f"import {module}" for module in sorted(modules)))
    assert "torch" in loaded
    assert loaded & ONLY_WHEN_ASKED == set()


TRAINING = """
from dataclasses import replace
import sys
import interp.sweeps
from interp.experiment import TrainingConfig
from interp.experiment import preset
from interp.training import train
list(train(replace(preset("reference"), training=TrainingConfig(steps=2))))
assert "torch._dynamo" not in sys.modules
"""


def test_training_waits_for_nothing_that_it_does_not_use():
    """torch._dynamo, which an object of torch.optim loads, takes nearly as long as torch itself; xarray half a
    second."""
    assert loaded_after(TRAINING) & HEAVY == {"numpy", "torch"}


def test_the_question_can_be_answered_with_no():
    assert loaded_after("import interp.experiment") & HEAVY == {"numpy"}
    assert "plotly" in loaded_after("import interp.figures\ninterp.figures.new_figure('title', x='step', y='loss')")


def test_every_public_name_is_the_one_of_its_package():
    """The list of them, `__init__.pyi`, is what type checkers see, and what is loaded when it is asked for."""
    stub = ast.parse(Path(interp.__file__).with_suffix(".pyi").read_text())
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: f"interp.{node.module}" for node in imports for alias in node.names}
    assert set(interp.__all__) - set(homes) == {"reference_path"}
    for name, home in homes.items():
        assert getattr(interp, name) is getattr(import_module(home), name)
        assert home == "interp.errors" or name in import_module(home).__all__
    assert set(interp.__all__) <= set(dir(interp))


def test_a_name_that_does_not_exist_is_refused():
    with pytest.raises(AttributeError, match="Tsk"):
        attrgetter("Tsk")(interp)


@pytest.mark.parametrize("package", FACES)
def test_a_face_has_what_it_says(package: str):
    """Every name once, in order, and none that is not used or documented elsewhere: a face is no index of its files."""
    module = import_module(f"interp.{package}")
    assert module.__doc__
    for name in module.__all__:
        assert hasattr(module, name)
    assert len(set(module.__all__)) == len(module.__all__)
