"""What other people install: one top-level name, everything in it, and nothing that the tree does not have."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import lazy_loader
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import interp

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]
FOLDERS = PROJECT["tool"]["setuptools"]["package-dir"]
DATA = PROJECT["tool"]["setuptools"]["package-data"]


def run_python(*arguments: str, folder: Path) -> str:
    """The output of a fresh interpreter that stands in `folder` and hears nothing of the environment."""
    done = subprocess.run([sys.executable, "-I", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def folder_of(package: str) -> Path:
    """The folder of the tree that holds a package, by the mapping of pyproject.toml."""
    if package in FOLDERS:
        return ROOT / FOLDERS[package]
    parent, _, name = package.rpartition(".")
    return folder_of(parent) / name


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built from, so that nothing is left behind in the tree."""
    copy = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    for name in ("interp", "analyses", "checkpoints/reference"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "results", ".*"))
    return copy


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution: what lacks there lacks here."""
    built = tmp_path_factory.mktemp("built")
    run_python("-m", "build", "--no-isolation", "--outdir", str(built), str(sources), folder=built)
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is installed into."""
    target = tmp_path_factory.mktemp("installed")
    options = ("--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check", "--quiet")
    run_python("-m", "pip", "install", *options, "--target", str(target), str(wheel), folder=target)
    return target


def test_the_wheel_owns_one_name(installed: Path):
    names = {entry.name for entry in installed.iterdir()}
    assert names - {"bin", f"interp-{version('interp')}.dist-info"} == {"interp"}


def test_the_wheel_has_every_file_of_the_tree(wheel: Path):
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("interp/")}
    expected = set()
    for package in PACKAGES:
        for pattern in ["*.py", *DATA.get(package, [])]:
            folder = folder_of(package)
            expected |= {f"{package.replace('.', '/')}/{path.relative_to(folder)}" for path in folder.glob(pattern)}
    assert {"interp/py.typed", "interp/experiment/task.py", "interp/analyses/norms/weight_norms.py"} <= expected
    assert packed == expected


def test_the_wheel_has_license_command_and_version(wheel: Path):
    files = zipfile.ZipFile(wheel)
    about = f"interp-{version('interp')}.dist-info"
    assert interp.__version__ == version("interp")
    assert f"{about}/licenses/LICENSE" in files.namelist()
    assert "interp = interp.cli:main" in files.read(f"{about}/entry_points.txt").decode()


def test_the_listed_packages_are_those_of_the_tree():
    found = {
        "interp": ROOT / "interp",
        "interp.analyses": ROOT / "analyses",
        "interp.reference": ROOT / "checkpoints" / "reference",
    }
    for path in (ROOT / "interp").rglob("*.py"):
        found[".".join(path.parent.relative_to(ROOT).parts)] = path.parent
    found |= {f"interp.analyses.{path.parent.name}": path.parent for path in (ROOT / "analyses").glob("*/*.py")}
    assert {package: folder_of(package) for package in PACKAGES} == found
    assert len(PACKAGES) == len(set(PACKAGES))
    for folder in found.values():
        assert (folder / "__init__.py").is_file()


@pytest.mark.parametrize(
    ("package", "pattern"), [(package, pattern) for package, patterns in DATA.items() for pattern in patterns]
)
def test_every_pattern_of_packaged_data_finds_something(package: str, pattern: str):
    assert list(folder_of(package).glob(pattern))


def test_no_file_beside_the_code_is_forgotten():
    for package in PACKAGES:
        folder = folder_of(package)
        packed = {path for pattern in ["*.py", *DATA.get(package, [])] for path in folder.glob(pattern)}
        ignored = ("__pycache__", "results", ".lock")
        others = {
            path
            for path in folder.rglob("*")
            if path.is_file() and not set(path.relative_to(folder).parts) & set(ignored)
        }
        inner = {folder_of(other) for other in PACKAGES if other.startswith(f"{package}.")}
        assert {path for path in others if not set(path.parents) & inner} == packed


def test_another_analyses_folder_shadows_no_installed_analysis(installed: Path, tmp_path: Path):
    (tmp_path / "analyses").mkdir()
    (tmp_path / "analyses" / "__init__.py").write_text("raise SystemExit('this is not ours')")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(installed)!r}]\n"
    code += "from interp.analyses import weight_norms; print(weight_norms.__file__)"
    shown = run_python("-c", code, folder=tmp_path).strip()
    assert shown == str(installed / "interp" / "analyses" / "norms" / "weight_norms.py")


def test_the_installed_reference_run_is_found_and_opens(installed: Path, tmp_path: Path):
    code = (
        f"import sys; sys.path.insert(0, {str(installed)!r}); import interp; "
        "print(interp.open_run(interp.reference_path()).path)"
    )
    assert run_python("-c", code, folder=tmp_path).strip() == str(installed / "interp" / "reference")


def test_an_editable_install_sees_a_new_analysis_at_once(sources: Path, tmp_path: Path):
    build = (
        f"import os; os.chdir({str(sources)!r}); from setuptools.build_meta import build_editable; "
        f"build_editable({str(tmp_path)!r})"
    )
    run_python("-c", build, folder=tmp_path)
    site = tmp_path / "site"
    zipfile.ZipFile(next(tmp_path.glob("*.whl"))).extractall(site)
    new = sources / "analyses" / "dynamics" / "written_after_installing.py"
    new.write_text("QUESTION = 'seen?'\n")
    try:
        needed = str(Path(lazy_loader.__file__).parents[1])
        # -S: without the site-packages, and so the editable install, of the environment the tests run in.
        code = (
            f"import site, sys; site.addsitedir({str(site)!r}); sys.path.append({needed!r})\n"
            "from interp.analyses import written_after_installing as a; print(a.__file__)"
        )
        assert run_python("-S", "-c", code, folder=tmp_path).strip() == str(new)
    finally:
        new.unlink()


def imported_packages(source: str) -> set[str]:
    """The top-level names that a source imports, at its top or inside a function."""
    nodes = list(ast.walk(ast.parse(source)))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in names}


def test_everything_imported_is_required():
    sources = [path.read_text() for folder in ("interp", "analyses") for path in (ROOT / folder).rglob("*.py")]
    imported = set().union(*map(imported_packages, sources)) - sys.stdlib_module_names - {"interp"}
    optional = {
        name for extra, lines in PROJECT["project"]["optional-dependencies"].items() if extra != "dev" for name in lines
    }
    required = {canonicalize_name(Requirement(line).name) for line in {*PROJECT["project"]["dependencies"], *optional}}
    distribution_of = {
        "sklearn": "scikit-learn",
        "transformer_lens": "transformer-lens",
        "huggingface_hub": "huggingface-hub",
        "lazy_loader": "lazy-loader",
        "yaml": "pyyaml",
    }
    assert {"numpy", "torch", "xarray"} <= imported
    assert {distribution_of.get(name, name) for name in imported} - required == set()


def test_every_requirement_is_pinned_to_a_version_it_allows():
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))
    pins = {canonicalize_name(name): pin for name, pin in pins.items()}
    extras = [line for extra in PROJECT["project"]["optional-dependencies"].values() for line in extra]
    for requirement in map(
        Requirement, [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"], *extras]
    ):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_every_line_of_the_constraints_is_a_plain_pin():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"|#.*|[\w.-]+==[\w.]+", line)] == []


def test_every_install_of_the_makefile_is_constrained():
    recipes = (ROOT / "Makefile").read_text().splitlines()
    installs = [line for line in recipes if "pip install" in line or "$(INSTALL)" in line]
    assert len(installs) > 1
    for line in installs:
        assert "-c constraints.txt" in line or line.strip().startswith("$(INSTALL)")


def test_the_gate_runs_the_tests():
    gate = ROOT / ".ci" / "run"
    assert os.access(gate, os.X_OK)
    assert "set -euo pipefail" in gate.read_text()
    assert "make test" in gate.read_text()
