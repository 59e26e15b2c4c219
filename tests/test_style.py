"""House rules that a machine can hold: names, sizes, no unfinished business, nothing unpickled, every public thing
explained."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("interp", "analyses", "tests", "benchmarks", "docs")

LONGEST = 420
# Longer files, each with the reason why it is one file all the same.
LONGER: dict[str, str] = {
    "tests/interchange/strangers.py": "a catalog: one small network for each style of public code",
    "analyses/dynamics/circuit_forces.py": "one analysis: what it computes, the account of it, the figure",
    "analyses/circuit/frequency_ablation.py": "one analysis: three places to cut, each beside its null",
}

NAMES_THAT_SAY_NOTHING = re.compile(r"utils?|helpers?|misc|common|tools?|stuff")
# Words that no file may hold: this line and the test of it are the only ones with them.
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")
UNPICKLES = frozenset({"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"})


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def unpickling(source: str) -> Iterator[str]:
    """Everything in a source that could unpickle a file: a file of weights must never be able to run code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"{node.lineno}: imports {name}" for name in names if name.split(".")[0] in UNPICKLES)
            if (
                isinstance(node, ast.ImportFrom)
                and node.module == "torch"
                and "load" in {alias.name for alias in node.names}
            ):
                yield f"{node.lineno}: imports load from torch: call torch.load by its full name"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if called == "torch.load" and options.get("weights_only") != "True":
                yield f"{node.lineno}: calls torch.load without weights_only=True"
            if options.get("allow_pickle", "False") != "False":
                yield f"{node.lineno}: allows pickles"


def unexplained(source: str) -> Iterator[str]:
    """The module, and its public functions and classes, that have no docstring."""
    tree = ast.parse(source)
    if tree.body and not ast.get_docstring(tree):
        yield "1: the module"
    for node in tree.body:
        if (
            isinstance(node, ast.FunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
        ):
            yield f"{node.lineno}: {node.name}"


def test_files_and_folders_are_named_after_what_is_in_them():
    paths = {place for path in python_files(*FOLDERS) for place in (path.with_suffix(""), path.parent)}
    assert [shown(path) for path in sorted(paths) if NAMES_THAT_SAY_NOTHING.fullmatch(path.name.lower())] == []


def test_a_file_can_be_read_in_one_sitting():
    """300 lines are a question: is it one idea? From LONGEST on, the answer is written down in LONGER."""
    lengths = {shown(path): len(path.read_text().splitlines()) for path in python_files(*FOLDERS)}
    longer = {name: length for name, length in lengths.items() if length > LONGEST}
    assert longer.keys() == LONGER.keys(), f"is it one idea? {longer}"


def test_nothing_is_left_for_later():
    endings = {".py", ".md", ".html", ".css", ".js"}
    texts = [
        path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in endings and path != Path(__file__)
    ]
    texts += [*ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "pyproject.toml"]
    lines = ((path, number, line) for path in texts for number, line in enumerate(path.read_text().splitlines(), 1))
    found = [f"{shown(path)}:{number}" for path, number, line in lines if UNFINISHED.search(line)]
    assert found == []


def complaints(rule: Callable[[str], Iterator[str]]) -> list[str]:
    """What a rule says of the code, with file and line."""
    return [f"{shown(path)}:{said}" for path in python_files("interp", "analyses") for said in rule(path.read_text())]


def test_nothing_is_unpickled():
    assert complaints(unpickling) == []


def test_everything_public_is_explained():
    assert complaints(unexplained) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "def f():\n    import torch, dill.session",
        "from torch import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=trusted)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_a_planted_pickle_is_caught(source: str):
    assert len(list(unpickling(source))) == 1


def test_safe_reading_passes():
    assert (
        list(unpickling("import torch, json\ntorch.load(path, weights_only=True)\nnp.load(path, allow_pickle=False)"))
        == []
    )


def test_a_missing_docstring_is_caught():
    source = (
        '"""Title."""\ndef f():\n    return 1\ndef _g():\n    return 2\nclass C:\n    pass\ndef h():\n    """Said."""'
    )
    assert list(unexplained(source)) == ["2: f", "6: C"]
    assert list(unexplained("x = 1")) == ["1: the module"]
    assert list(unexplained("")) == []


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX"])
def test_unfinished_business_is_caught(word: str):
    assert UNFINISHED.search(f"x = 1  # {word}: later")


@pytest.mark.parametrize("name", ["utils", "helpers", "misc", "common", "util"])
def test_a_name_that_says_nothing_is_caught(name: str):
    assert NAMES_THAT_SAY_NOTHING.fullmatch(name)
