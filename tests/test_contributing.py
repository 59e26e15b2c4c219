"""What CONTRIBUTING.md shows works as it stands: its commands, its template of an analysis, and the way into a package
of one's own."""

import doctest
import importlib
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

import interp.analyses
from interp.analysis import discover, find
from interp.analysis.contract import ENTRY_POINTS
from interp.testing import check_analysis

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


ANALYSIS, TEST, PLUGIN_TEST = blocks("python")
NAME = "logit_margin"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The package of the last section, installed: its module, and the metadata that its pyproject.toml makes."""
    [project] = blocks("toml")
    described = tomllib.loads(project)["project"]
    name, module = described["name"], described["entry-points"][ENTRY_POINTS][NAME]
    path = tmp_path.joinpath(*module.split(".")).with_suffix(".py")
    path.parent.mkdir()
    (path.parent / "__init__.py").touch()
    path.write_text(ANALYSIS)
    metadata = tmp_path / f"{name}-{described['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {described['version']}\n")
    (metadata / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\n{NAME} = {module}\n")
    monkeypatch.syspath_prepend(tmp_path)
    discover.cache_clear()
    yield importlib.import_module(module)
    for loaded in [loaded for loaded in sys.modules if loaded.split(".")[0] == name]:
        del sys.modules[loaded]
    discover.cache_clear()


def run_tests(source: str) -> int:
    """Call every test of a source, with each of its parameters; the number of calls."""
    names: dict = {}
    exec(compile(source, "CONTRIBUTING.md", "exec"), names)
    calls = 0
    for test in [value for name, value in names.items() if name.startswith("test_")]:
        marks = getattr(test, "pytestmark", [])
        for given in marks[0].args[1] if marks else [()]:
            test(*given)
            calls += 1
    return calls


def test_the_template_is_an_analysis(package):
    check_analysis(package)


def test_the_example_of_the_template_is_true(package):
    assert doctest.testmod(package) == (0, 5)


def test_the_template_stands_where_it_says():
    first_lines = [block.splitlines()[0] for block in (ANALYSIS, TEST)]
    assert first_lines == [f"# analyses/circuit/{NAME}.py", f"# tests/analyses/circuit/test_{NAME}.py"]
    # It is a template: an analysis of that name in the tree would make it one of two.
    assert not list((ROOT / "analyses").rglob(f"{NAME}.py"))


def test_the_tests_of_the_template_pass_and_can_fail(package, monkeypatch):
    monkeypatch.setattr(interp.analyses, NAME, package, raising=False)
    assert run_tests(TEST) == 5
    right = package.measure
    monkeypatch.setattr(
        package, "measure", lambda checkpoint, *, temperature=1.0: right(checkpoint, temperature=1.01 * temperature)
    )
    with pytest.raises(AssertionError):
        run_tests(TEST)


def test_a_package_of_ones_own_adds_the_analysis(package):
    assert find(NAME).module is package
    assert find(NAME).title == "Logit margin. By how much does the right answer win?"
    assert run_tests(PLUGIN_TEST) == 1


def test_every_command_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = [shlex.split(line) for block in blocks("bash") for line in block.splitlines()]
    assert ["make", "test"] in commands
    for program, *words in commands:
        if program == "make":
            assert re.search(rf"^{words[0]}:", makefile, re.MULTILINE)
        else:
            assert program == ".venv/bin/pytest"
            assert all((ROOT / word).is_file() for word in words if word.startswith("tests/"))


def test_every_file_that_is_named_exists():
    named = set(re.findall(r"`((?:tests|docs|interp|analyses)/[\w./-]+)`", TEXT))
    assert {"tests/analysis/test_every_analysis.py", "docs/log.md"} <= named
    for name in named:
        assert (ROOT / name).is_file()
