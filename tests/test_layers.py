"""The arrows of the design: a module imports only from modules above it. Read from the source, so that a lazy import counts too."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ORDER = (
    "errors",
    "axes",
    "figures",
    "notebook",
    "change_points",
    "verdict",
    "fourier",
    "task",
    "experiment",
    "key_frequencies",
    "loss",
    "activations",
    "weights",
    "factored",
    "engine",
    "mlp",
    "memory",
    "model",
    "optimizers",
    "processes",
    "training",
    "checkpoint",
    "circuits",
    "calibration",
    "files",
    "store",
    "writer",
    "thinning",
    "verification",
    "listing",
    "layouts",
    "importing",
    "results",
    "discovery",
    "measuring",
    "analysis",
    "tables",
    "images",
    "setting",
    "sentences",
    "competition",
    "doubts",
    "explain",
    "quantities",
    "comparison",
    "comparison_tables",
    "exporting",
    "report",
    "background",
    "running",
    "seeds",
    "grids",
    "experiments",
    "progress",
    "wandb_log",
    "watching",
    "options",
    "commands",
    "cli",
    "testing",
)

# An analysis sees one checkpoint. It does not train, and does not know where runs lie or how results are shown.
SEEN_BY_ANALYSES = frozenset(ORDER[: ORDER.index("calibration") + 1]) - {"training"}

# What a module may import against the order, and why.
EXCEPTIONS = {
    ("store", "Run.result", "analysis"): "people ask a run for a result; the import waits until they do, so nothing is circular",
}
# An analysis of a whole run names the type of what it is given; a type is no import when the program runs.
TYPES_SEEN_BY_ANALYSES = frozenset({"store"})


class Imports(ast.NodeVisitor):
    """Every import of the package in one module, as (imported module, qualified name of the function around it, only for types)."""

    def __init__(self, tree: ast.Module) -> None:
        self.found: list[tuple[str, str, bool]] = []
        self._around: list[str] = []
        self._for_types = False
        self.visit(tree)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level or node.module in ("interp", "interp.analyses"):
            prefix = "." * node.level + (node.module or "")
            for alias in node.names:
                self._add(f"{prefix}.{alias.name}")
        else:
            self._add(node.module or "")

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

    def _add(self, name: str) -> None:
        if name.partition(".")[0] in ("interp", "analyses", ""):
            self.found.append((name, ".".join(self._around), self._for_types))


def module_name(path: Path) -> str:
    """The name by which a file of the tree is imported: analyses/x.py → interp.analyses.x."""
    parts = list(path.with_suffix("").parts)
    if parts[0] == "analyses":
        parts.insert(0, "interp")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def violations(sources: dict[str, str]) -> list[str]:
    """One line per broken arrow, for sources by module name."""
    complaints = []
    for name, source in sources.items():
        is_analysis = name.startswith("interp.analyses")
        layer = name.split(".")[1] if "." in name else ""
        if layer and not is_analysis and layer not in ORDER:
            complaints.append(f"{name} has no place in the order of layers: give it one in tests/test_layers.py")
            continue
        for imported, around, for_types in Imports(ast.parse(source)).found:
            target = imported.split(".")[1] if imported.startswith("interp.") else None
            if imported == "interp.__version__" or (target == layer and not is_analysis):
                continue
            if not layer:  # the package itself only points to its modules, and only when asked
                allowed = for_types or bool(around)
            elif target not in ORDER:  # `interp` itself, a bare `analyses`, a public name, or one analysis from another
                allowed = target in ("analyses", "reference") and layer in ORDER[ORDER.index("discovery") :]
            elif is_analysis:
                allowed = target in SEEN_BY_ANALYSES or (for_types and target in TYPES_SEEN_BY_ANALYSES)
            else:
                allowed = ORDER.index(target) < ORDER.index(layer) or (layer, around, target) in EXCEPTIONS
            if not allowed:
                complaints.append(f"{name} must not import {imported}")
    return complaints


def tree_sources() -> dict[str, str]:
    files = [*(ROOT / "interp").rglob("*.py"), *(ROOT / "analyses").glob("*.py")]
    return {module_name(path.relative_to(ROOT)): path.read_text() for path in sorted(files)}


def test_every_module_imports_only_from_above():
    assert violations(tree_sources()) == []


def test_every_exception_is_still_used():
    sources = tree_sources()
    for layer, around, target in EXCEPTIONS:
        found = Imports(ast.parse(sources[f"interp.{layer}"])).found
        assert (f"interp.{target}", around, False) in found


def test_the_tree_is_really_read():
    sources = tree_sources()
    assert {"interp", "interp.task", "interp.report", "interp.analyses"} <= set(sources)
    assert ("interp.task", "", False) in Imports(ast.parse(sources["interp.experiment"])).found


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("interp.fourier", "from interp.task import Task"),
        ("interp.fourier", "from interp import task"),
        ("interp.fourier", "import interp.task as t"),
        ("interp.model", "def f():\n    from interp.store import open_run"),
        ("interp.model", "def f():\n    import_module('interp.store')"),
        ("interp.model", "if TYPE_CHECKING:\n    from interp.store import Run"),
        ("interp.store", "from interp.analysis import analyze"),
        ("interp.store", "class Run:\n    def other(self):\n        from interp.analysis import analyze"),
        ("interp.cli", "import interp"),
        ("interp.cli", "from interp import Task"),
        ("interp.cli", "import analyses.weight_norms"),
        ("interp.cli", "from . import task"),
        ("interp.comparison", "from interp.report.page import write"),
        ("interp.explain", "from interp.report import page"),
        ("interp.model", "from interp.analyses import weight_norms"),
        ("interp", "from interp.task import Task"),
        ("interp.unheard_of", ""),
        ("interp.analyses.one", "from interp.analyses import other"),
        ("interp.analyses.one", "from interp.analyses.other import measure"),
        ("interp.analyses.one", "from interp.training import train"),
        ("interp.analyses.one", "from interp.store import Run"),
        ("interp.analyses.one", "if TYPE_CHECKING:\n    from interp.report import page"),
        ("interp.analyses.one", "from interp.report.page import write"),
    ],
)
def test_a_planted_violation_is_caught(name: str, source: str):
    assert len(violations({name: source})) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("interp.experiment", "from interp.task import Task\nimport numpy"),
        ("interp.cli", "from interp import __version__, store\nfrom interp.report.page import write"),
        ("interp.report.page", "from interp.report.parts import head\nfrom interp import figures"),
        ("interp.store", "class Run:\n    def result(self):\n        from interp.analysis import analyze"),
        ("interp.analysis", "import_module('interp.analyses')"),
        ("interp.analyses.one", "from interp import fourier, figures\nfrom interp.checkpoint import Checkpoint"),
        ("interp.analyses.one", "if TYPE_CHECKING:\n    from interp.store import Run"),
        ("interp", "if TYPE_CHECKING:\n    from interp.task import Task\ndef f():\n    from interp.errors import InputError"),
    ],
)
def test_what_the_design_allows_passes(name: str, source: str):
    assert violations({name: source}) == []
