"""What a result is made of: the sources that its analysis stands on, found and not listed."""

import ast
from pathlib import Path

import pytest

import interp
import interp.analyses
from interp.analysis import discover, find, sources

INTERP, ANALYSES = (Path(str(package.__file__)).parent for package in (interp, interp.analyses))


def versions(monkeypatch, changed: Path | None = None) -> dict[str, str]:
    """The version of every analysis, after a change of this file."""
    with monkeypatch.context() as patch:
        digest = sources._digest
        patch.setattr(sources, "_digest", lambda path: digest(path) + "'" * (path == changed))
        return {name: analysis.version for name, analysis in discover().items()}


@pytest.mark.parametrize(
    ("changed", "stale", "fresh"),
    [
        ("mathematics/circuits.py", ("circuit_split", "circuit_efficiency"), ("weight_norms", "transitions")),
        ("runs/pairs_in_phase.py", ("circuit_split",), ("weight_norms",)),
        ("models/factored_gradient.py", ("circuit_split", "weight_norms"), ()),  # by way of the forward pass
        ("models/weights.py", ("circuit_split", "weight_norms", "learning_curves"), ()),
        ("runs/run.py", ("learning_curves", "norm_account"), ("weight_norms",)),  # given to them, imported by neither
        ("mathematics/kinks.py", ("transitions", "norm_account"), ("weight_norms", "learning_curves")),
        ("figures/style.py", (), ("weight_norms", "transitions", "circuit_split")),
        ("errors.py", (), ("weight_norms", "transitions", "circuit_split")),
        ("analysis/walk.py", (), ("weight_norms", "transitions", "circuit_split")),
    ],
)
def test_a_change_makes_those_results_stale_that_stand_on_it(monkeypatch, changed, stale, fresh):
    assert (INTERP / changed).is_file()
    before, after = versions(monkeypatch), versions(monkeypatch, INTERP / changed)
    assert [name for name in stale if before[name] == after[name]] == []
    assert [name for name in fresh if before[name] != after[name]] == []


def test_every_analysis_stands_on_itself_and_on_no_other(monkeypatch):
    before = versions(monkeypatch)
    for path in ANALYSES.glob("*/[a-z]*.py"):
        after = versions(monkeypatch, path)
        needing = {name for name, analysis in discover().items() if path.stem in analysis.needs}
        needing |= {name for name, analysis in discover().items() if needing & {*analysis.needs}}
        assert {name for name in before if before[name] != after[name]} == {path.stem, *needing}


def in_syntax_tree(path: Path) -> set[tuple[str, str]]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {("." * node.level + (node.module or ""), alias.name) for alias in node.names}
    return {(module, name) for module, name in found if module.startswith(".") or module.split(".")[0] == "interp"}


def test_the_pattern_finds_the_imports_of_the_syntax_tree():
    for path in (*INTERP.rglob("*.py"), *INTERP.rglob("*.pyi"), *ANALYSES.rglob("*.py")):
        # The pattern cannot tell the example in the docstring of interp itself from an import.
        example = {("interp", "")} if path == INTERP / "__init__.py" else set()
        assert set(sources.imports(path)) == in_syntax_tree(path) | example, path


def test_what_others_wrote_stands_on_what_it_imports(tmp_path):
    text = """
        from interp.mathematics import (
            circuits as ours,  # interp.mathematics.kinks
            fourier,
        )
        import interp.mathematics.phases
        from interp.analyses import weight_norms
        from interpolation import grokking
        import interpolation.kinks
        if True:
            from interp.machine import n_cores
    """
    path = tmp_path / "somebody.py"
    path.write_text(text)
    found = {file.relative_to(INTERP).as_posix() for file in sources.sources(path) if INTERP in file.parents}
    assert found >= {f"mathematics/{name}.py" for name in ("circuits", "fourier", "phases")} | {"machine/processes.py"}
    assert not found & {"mathematics/kinks.py", "mathematics/grokking.py", "machine/folder.py"}
    assert {path, Path(str(find("weight_norms").module.__file__))} <= sources.sources(path)
    path = tmp_path / "of_a_whole_package.py"
    path.write_text("import interp.machine")
    assert INTERP / "machine" / "folder.py" in sources.sources(path)
