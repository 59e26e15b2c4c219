"""Which analyses there are: those of the package, and those that other packages add through the entry-point group."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import interp.analyses
from interp.analysis import analyze, discover, find, sources
from interp.analysis.contract import ENTRY_POINTS, select
from interp.errors import InputError
from interp.experiment import ModelConfig, Task
from interp.explanation import EVIDENCE
from interp.models import initial_weights
from interp.pages.frames import NEEDS
from interp.runs import Run

MODEL = ModelConfig(d_model=8, n_heads=2, d_mlp=6)

MEASURE = '''"""A title. A question?"""
import xarray as xr
REFERENCE = "nobody"
def measure(checkpoint, *, factor=1.0):
    size = factor * float(checkpoint.W_E.norm())
    return xr.Dataset({"size": ((), size, {"units": "1", "long_name": "size"})})
def summary(result):
    return {"size": float(result["size"][-1])}
def plot(result):
    return None
'''

COMPUTE = '''"""Another title."""
import xarray as xr
REFERENCE = "nobody"
NEEDS = (%r,)
def compute(run):
    needed = run.result(%r)
    growth = needed["size"].values[-1] / needed["size"].values[0]
    return xr.Dataset({"growth": ((), growth, {"units": "1", "long_name": "growth"})})
summary = plot = None
'''


class Packages:
    """Packages of other people, installed as pip would: a module and its metadata in a folder on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, package: str, source: str, **entry_points: str) -> None:
        (self.folder / f"{package}.py").write_text(source)
        metadata = self.folder / f"{package}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in entry_points.items()]
        (metadata / "entry_points.txt").write_text("\n".join([f"[{ENTRY_POINTS}]", *lines, ""]))
        importlib.invalidate_caches()
        discover.cache_clear()


@pytest.fixture
def packages(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    known = set(sys.modules)
    yield Packages(folder)
    for name in set(sys.modules) - known:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == folder:
            del sys.modules[name]
    discover.cache_clear()


@pytest.fixture
def run(tmp_path, written_run) -> Run:
    start = initial_weights(MODEL, 7)
    twice = {1: start, 2: {name: 2 * weight for name, weight in start.items()}}
    return written_run(tmp_path / "run", Task(7), MODEL, twice, weights=twice.get)


def test_every_file_of_the_package_is_an_analysis():
    assert interp.analyses.__file__ is not None
    files = {path.stem for path in Path(interp.analyses.__file__).parent.glob("*/*.py")} - {"__init__"}
    assert set(discover()) == files
    assert list(discover()) == sorted(files)
    assert find("weight_norms").title.startswith("Weight norms")


def test_an_installed_package_adds_its_analysis(packages, run):
    packages.install("somebody", MEASURE, size="somebody")
    assert {"size", "weight_norms"} <= set(discover())
    assert find("size").parameters == {"factor": 1.0}
    result = analyze(run, ["size"], parameters={"size": {"factor": 3.0}})["size"]
    assert_array_equal(result["size"][1], 2 * result["size"][0])
    assert [path.name[:5] for path in (run.path / "results").glob("*.nc")] == ["size-"]


def test_what_the_summary_of_a_plug_in_cannot_know_is_null(packages, run):
    source = MEASURE.replace('{"size": float(result["size"][-1])}', '{"size": {2: result["size"].values[0] * np.nan}}')
    packages.install("somebody", f"{source}\nimport numpy as np\n", size="somebody")
    result = analyze(run, ["size"])["size"]
    assert np.isnan(find("size").module.summary(result)["size"][2])
    assert find("size").summary(result) == {"size": {"2": None}}


def test_one_name_for_two_analyses_is_an_error_that_names_both(packages):
    packages.install("somebody", MEASURE, weight_norms="somebody")
    with pytest.raises(
        InputError, match=r"two analyses are called 'weight_norms': interp\.analyses\.norms\.weight_norms and somebody"
    ):
        discover()


def test_one_name_in_two_packages_is_an_error_that_names_both(packages):
    packages.install("one", MEASURE, size="one")
    packages.install("other", MEASURE, size="other")
    with pytest.raises(InputError, match=r"'size': (one and other|other and one)"):
        find("weight_norms")


def test_the_same_module_listed_twice_is_one_analysis(packages):
    packages.install("somebody", MEASURE, size="somebody")
    packages.install("anew", MEASURE, size="somebody")
    assert find("size").module.__name__ == "somebody"


@pytest.mark.parametrize("source", ["import a_module_that_nobody_has", "raise RuntimeError('no')", "def ("])
def test_a_broken_package_takes_only_itself_away(packages, source):
    packages.install("somebody", source, size="somebody")
    with pytest.warns(UserWarning, match="the analysis 'size' is left out: somebody cannot be imported"):
        known = discover()
    assert "size" not in known
    assert "weight_norms" in known


def test_what_is_needed_is_computed_first_and_not_returned(packages, run):
    packages.install("somebody", MEASURE, size="somebody")
    packages.install("other", COMPUTE % ("size", "size"), a_growth="other")
    results = analyze(run, ["a_growth"])
    assert list(results) == ["a_growth"]
    assert float(results["a_growth"].growth) == pytest.approx(2.0)
    assert (run.path / "results" / "size.nc").is_file()


def test_other_code_in_what_is_needed_makes_a_result_stale(packages, monkeypatch):
    packages.install("somebody", MEASURE, size="somebody")
    packages.install("other", COMPUTE % ("size", "size"), growth="other")
    before = find("growth").version
    digest = sources._digest
    monkeypatch.setattr(sources, "_digest", lambda path: digest(path) + "'" * (path.stem == "somebody"))
    assert find("growth").version != before


def test_analyses_that_need_each_other_are_refused(packages, run):
    packages.install("one", COMPUTE % ("second", "second"), first="one")
    packages.install("other", COMPUTE % ("first", "first"), second="other")
    with pytest.raises(InputError, match="need each other: first → second → first"):
        analyze(run, ["first"])


def test_a_need_that_does_not_exist_is_named(packages, run):
    packages.install("other", COMPUTE % ("weight_norm", "weight_norm"), growth="other")
    with pytest.raises(InputError, match=r"unknown analysis 'weight_norm'; did you mean 'weight_norms'\?"):
        analyze(run, ["growth"])


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ('("x", [size] * checkpoint.step,', r"size: size is float64 \[2\] at step 2, float64 \[1\] at others"),
        ("((), [size, 1][checkpoint.step - 1],", r"size: size is int64 \[\] at step 2, float64 \[\] at others"),
    ],
)
def test_shapes_and_types_that_change_from_step_to_step_are_refused(packages, run, value, complaint):
    packages.install("somebody", MEASURE.replace("((), size,", value), size="somebody")
    with pytest.raises(InputError, match=complaint):
        analyze(run, ["size"])


def test_a_plug_in_says_its_group_and_how_often_and_when_it_wants_to_be_measured(packages, run):
    packages.install("somebody", MEASURE + "ON_REQUEST, MOST_STEPS = True, 2\n", size="somebody")
    packages.install("another", MEASURE, width="another")
    sizes = find("size"), find("width")
    assert [(one.group, one.core, one.on_request, one.most_steps) for one in sizes] == [
        ("plug-in", False, True, 2),
        ("plug-in", False, False, None),
    ]
    model = run.model
    assert {"core", "all"} & {analysis.name for analysis in discover().values()} == set()
    assert find("width") in select(["all"], Task(7), model)
    assert find("size") not in select(["all"], Task(7), model)
    assert select(["plug-in"], Task(7), model) == list(sizes)
    assert select(["size", "norms", "size"], Task(7), model)[0] == find("size")
    assert max(discover().values(), key=lambda analysis: analysis.reading_place) == find("width")
    with pytest.raises(InputError, match=r"unknown analysis 'plugin'; did you mean 'plug-in'\?"):
        select(["plugin"], Task(7), model)


def test_the_core_is_what_the_explanation_needs_and_the_circuit_shows():
    core = {analysis.name for analysis in discover().values() if analysis.core}
    assert core == {*EVIDENCE, *NEEDS, "attention_structure", "operations"}
    groups = {"dynamics", "circuit", "norms", "complexity", "validation"}
    assert {analysis.group for analysis in discover().values()} == groups
    mlp = ModelConfig(family="mlp", d_mlp=6)
    assert {analysis.name for analysis in select(["core"], Task(7), mlp)} == core - {
        "attention_structure",
        "operations",
    }
