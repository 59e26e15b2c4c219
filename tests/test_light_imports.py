"""What is loaded when: a fresh interpreter imports a module, and we look at what came along."""

import ast
import json
import subprocess
import sys
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
    "interp.figures.style": set(),
    "interp.cli": set(),
    "interp.experiment.task": {"numpy"},
    "interp.experiment.experiment": {"numpy"},
}

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
import interp.sweeps.driver
from interp.experiment.experiment import TrainingConfig, preset
from interp.training.loop import train
list(train(replace(preset("reference"), training=TrainingConfig(steps=2))))
assert "torch._dynamo" not in sys.modules
"""


def test_training_waits_for_nothing_that_it_does_not_use():
    """torch._dynamo, which an object of torch.optim loads, takes nearly as long as torch itself; xarray half a
    second."""
    assert loaded_after(TRAINING) & HEAVY == {"numpy", "torch"}


def test_the_question_can_be_answered_with_no():
    assert loaded_after("import interp.experiment.task") & HEAVY == {"numpy"}
    assert "plotly" in loaded_after(
        "import interp.figures.style\ninterp.figures.style.new_figure('title', x='step', y='loss')"
    )


def test_every_public_name_is_the_one_of_its_module():
    homes = interp._HOME
    assert set(interp.__all__) - set(homes) == {"reference_path"}
    for name, home in homes.items():
        value = getattr(interp, name)
        assert value.__module__ == f"interp.{home}"
        assert value is getattr(sys.modules[f"interp.{home}"], name)
    assert set(interp.__all__) <= set(dir(interp))


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(interp.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module.removeprefix("interp.")
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("interp.")
        for alias in node.names
    }
    assert seen == interp._HOME


def test_a_name_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(AttributeError, match="no attribute 'Tsk'; it has Checkpoint, Experiment"):
        attrgetter("Tsk")(interp)


def test_modules_are_imported_by_their_own_names():
    from interp.mathematics import fourier

    assert fourier.__name__ == "interp.mathematics.fourier"
