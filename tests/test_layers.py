"""The floors of the house: a package imports only from lower floors. Read from the source, so that a lazy import counts
too."""

import ast
import re
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent

# From the ground up. Packages of one floor do not know each other.
FLOORS = (
    {"errors", "mathematics", "printable"},
    {"experiment", "machine"},
    {"models", "figures"},
    {"training", "runs"},
    {"analysis", "sweeps"},
    {"analyses", "explanation", "studies", "testing"},
    {"pages", "interchange"},
    {"cli"},
)
FLOOR_OF = {package: floor for floor, packages in enumerate(FLOORS) for package in packages}

# An analysis sees one checkpoint: it does not train, and knows neither where runs lie nor how they are walked. It may
# name the type Run.
NOT_FOR_ANALYSES = {"training", "sweeps", "machine"}
NAMES_FOR_ANALYSES = {
    "interp.runs": {
        *("BY_TENSOR", "Checkpoint", "CircuitDerivatives", "HasWeights", "Moment", "centred_logits", "phase_pairs"),
        "observed_gradients",
    },
    "interp.analysis": {"axes"},
}

# A package is imported by its face. `mathematics` has none: its files are named.
FACELESS = {"mathematics"}

# What a package may import against the order, and why.
EXCEPTIONS = {
    ("interp.runs.asking", f"Asked.{verb}", f"interp.{package}"): "people ask a run; the import waits until then"
    for verb, package in (
        *(("result", "analysis"), ("results", "analysis"), ("analyses", "analysis")),
        *(("explain", "explanation"), ("report", "pages"), ("plot", "pages")),
    )
} | {
    ("interp.runs.asking", "", f"interp.{package}"): "what these give, for type checkers; nothing is loaded for it"
    for package in ("analysis", "explanation")
}


class Import(NamedTuple):
    """One import of the package."""

    module: str
    names: tuple[str, ...]
    around: str  # the qualified name of the function that it stands in
    for_types: bool


class Imports(ast.NodeVisitor):
    """Every import of the package in one module."""

    def __init__(self, source: str) -> None:
        self.found: list[Import] = []
        self._around: list[str] = []
        self._for_types = False
        self.visit(ast.parse(source))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._add("." * node.level + (node.module or ""), tuple(alias.name for alias in node.names))

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func).rpartition(".")[2]
        if called in ("import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant):
            self._add(str(node.args[0].value))
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        outer, self._for_types = self._for_types, self._for_types or ast.unparse(node.test).endswith("TYPE_CHECKING")
        for child in node.body:
            self.visit(child)
        self._for_types = outer
        for child in node.orelse:
            self.visit(child)

    def _named(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self._around.append(node.name)
        self.generic_visit(node)
        self._around.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _named

    def _add(self, name: str, names: tuple[str, ...] = ()) -> None:
        if name.partition(".")[0] in ("interp", "analyses", ""):
            self.found.append(Import(name, names, ".".join(self._around), self._for_types))


def module_name(path: Path) -> str:
    """The name by which a file of the tree is imported: analyses/x.py → interp.analyses.x."""
    parts = list(path.with_suffix("").parts)
    if parts[0] == "analyses":
        parts.insert(0, "interp")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(module: str) -> str:
    """The package of the house that a module is in; empty for `interp` itself."""
    return f"{module}..".split(".")[1]


def violations(sources: dict[str, str]) -> list[str]:
    """One line per broken arrow, for sources by module name."""
    complaints = []
    for module, source in sources.items():
        package = package_of(module)
        if package and package not in FLOOR_OF:
            complaints.append(f"{module} is on no floor: give its package one in tests/test_layers.py")
            continue
        for one in Imports(source).found:
            if not is_allowed(module, one):
                complaints.append(f"{module} must not import {', '.join(one.names) or 'all'} of {one.module}")
    return complaints


def is_allowed(module: str, one: Import) -> bool:
    """Whether one import goes down, or stays in its package."""
    package, target = package_of(module), package_of(one.module)
    if one.module == "interp":  # a public name, which anything may stand behind; the version is a number
        return one.names == ("__version__",)
    if not package:  # the package itself only points to what it has, when asked
        return bool(one.around)
    if package == "analyses":
        return module == "interp.analyses" or is_allowed_to_analyses(target, one)
    if target == "reference" or (target == "analyses" and package == "analysis" and not one.names):
        return True  # the run that ships, and the folder that the analyses are found in
    if target == package or (module, one.around, one.module) in EXCEPTIONS:
        return True
    is_face = one.module.count(".") == 1 or target in FACELESS
    return is_face and FLOOR_OF.get(target, 99) < FLOOR_OF[package]


def is_allowed_to_analyses(target: str, one: Import) -> bool:
    """Whether an analysis may know that: what is below runs, and a few names of what is not."""
    if FLOOR_OF.get(target, 99) > FLOOR_OF["models"]:
        known = NAMES_FOR_ANALYSES.get(one.module, set()) | ({"Run"} if one.for_types else set())
        return bool(one.names) and set(one.names) <= known
    return target not in NOT_FOR_ANALYSES and (one.module.count(".") == 1 or target in FACELESS)


def tree_sources() -> dict[str, str]:
    files = [*(ROOT / "interp").rglob("*.py"), *(ROOT / "analyses").rglob("*.py")]
    return {module_name(path.relative_to(ROOT)): path.read_text() for path in sorted(files)}


def test_every_package_imports_only_from_lower_floors():
    assert violations(tree_sources()) == []


def test_the_page_on_architecture_draws_the_same_floors_and_names_what_there_is():
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawn = {name: int(floor) for floor, name in re.findall(r"^\| (\d) \| `(\w+)` \|", page, re.MULTILINE)}
    assert drawn == {package: floor + 1 for package, floor in FLOOR_OF.items()}
    for name in re.findall(r"`([\w./-]+(?:/|\.py|\.md|\.pyi|\.toml|\.txt))`", page):
        if not name.isupper() and "NAME" not in name and "FOLDER" not in name:
            assert (ROOT / name).exists() or any((ROOT / "interp").rglob(name.rstrip("/"))), name


def test_every_exception_is_still_used():
    sources = tree_sources()
    for module, around, imported in EXCEPTIONS:
        assert (imported, around) in {(name, where) for name, _, where, _ in Imports(sources[module]).found}


def test_the_tree_is_really_read():
    sources = tree_sources()
    assert {package_of(module) for module in sources} == {"", *FLOOR_OF}
    assert {"interp", "interp.experiment.task", "interp.pages", "interp.analyses.norms.weight_norms"} <= set(sources)
    assert "interp.errors" in {name for name, *_ in Imports(sources["interp.experiment.task"]).found}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        *(  # one for every floor: the floor above, from below
            (f"interp.{sorted(below)[0]}.one", f"from interp.{sorted(above)[0]} import anything")
            for below, above in pairwise(FLOORS)
        ),
        ("interp.mathematics.fourier", "import interp.experiment.task as t"),
        ("interp.training.loop", "from interp.runs import Run"),  # beside it, on its own floor
        ("interp.training.loop", "from interp.models.forward import logits"),  # behind a face
        ("interp.models.forward", "def f():\n    from interp.runs import open_run"),
        ("interp.models.forward", "def f():\n    import_module('interp.runs')"),
        ("interp.models.forward", "if TYPE_CHECKING:\n    from interp.runs import Run"),
        ("interp.runs.run", "from interp.analysis import analyze"),
        ("interp.runs.asking", "class Asked:\n    def other(self):\n        from interp.analysis import analyze"),
        ("interp.cli", "import interp"),
        ("interp.cli", "from interp import Task"),
        ("interp.cli", "import analyses.weight_norms"),
        ("interp.cli", "from . import task"),
        ("interp.models.forward", "from interp.analyses import weight_norms"),
        ("interp.pages.page", "from interp.unheard_of import anything"),
        ("interp", "from interp.experiment import Task"),
        ("interp.unheard_of", ""),
        ("interp.analyses.norms.one", "from interp.analyses import other"),
        ("interp.analyses.norms.one", "from interp.analyses.norms.other import measure"),
        ("interp.analyses.norms.one", "from interp.training import train"),
        ("interp.analyses.norms.one", "from interp.runs import Run"),
        ("interp.analyses.norms.one", "from interp.runs import Checkpoint, RunWriter"),
        ("interp.analyses.norms.one", "from interp.analysis import analyze"),
        ("interp.analyses.norms.one", "if TYPE_CHECKING:\n    from interp.pages import page"),
        ("interp.analyses.norms.one", "from interp.pages.page import write"),
    ],
)
def test_a_planted_violation_is_caught(module: str, source: str):
    assert len(violations({module: source})) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("interp.experiment.experiment", "from interp.experiment.task import Task\nimport numpy"),
        ("interp.cli", "from interp import __version__\nfrom interp.pages import render"),
        ("interp.pages.page", "from interp.pages.parts import head\nfrom interp.figures import new_figure"),
        ("interp.runs.asking", "class Asked:\n    def result(self):\n        from interp.analysis import analyze"),
        ("interp.analysis.contract", "import_module('interp.analyses')"),
        ("interp.analyses.norms.one", "from interp.mathematics import fourier\nfrom interp.runs import Checkpoint"),
        ("interp.analyses.norms.one", "if TYPE_CHECKING:\n    from interp.runs import Run"),
        (
            "interp",
            "def f():\n    from interp.errors import InputError",
        ),
    ],
)
def test_what_the_design_allows_passes(module: str, source: str):
    assert violations({module: source}) == []
