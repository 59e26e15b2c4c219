"""Every public function and class that a notebook meets is explained by an example in its docstring, and the examples
are true.

A notebook meets what the faces of FACES export, the public functions of the files in MATHEMATICS, the `measure` or
`compute` of every analysis, and the public methods and properties of the classes in SHOWN. A method or property may be
shown by the examples of its class instead, where these say `.name`. An example stands in its module and may use the
names there.
"""

import doctest
import inspect
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import interp
from interp.analysis import discover
from interp.runs.spectrum import Spectrum

ROOT = Path(__file__).parent.parent
FACES = ("", ".analysis", ".experiment", ".explanation", ".models", ".runs", ".testing", ".training")
MATHEMATICS = (
    *(
        "circuits",
        "cross_entropy",
        "bias_variance",
        "early_stopping",
        "power_law",
        "effective_complexity",
        "fourier",
        "grokking",
        "held_out",
        "key_frequencies",
        "float32_cross_entropy",
        "loss",
        "losses",
        "squared_error",
        "stablemax",
        "pair_samples",
        "phases",
        "rademacher",
        "random_sets",
    ),
)
SHOWN = (interp.Checkpoint, interp.Experiment, interp.Operations, interp.Run, interp.RunWriter, interp.Task, Spectrum)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def of_notebooks() -> Iterator[tuple[str, Any]]:
    """Everything that a notebook meets, by its full name."""
    for face in FACES:
        module = import_module(f"interp{face}")
        yield from ((f"{module.__name__}.{name}", getattr(module, name)) for name in module.__all__)
    for name in MATHEMATICS:
        module = import_module(f"interp.mathematics.{name}")
        own = (name for name, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__)
        yield from ((f"{module.__name__}.{name}", getattr(module, name)) for name in own if not name.startswith("_"))
    yield "interp.figures.new_figure", import_module("interp.figures").new_figure
    yield from ((f"{analysis.module.__name__}", analysis.function) for analysis in discover().values())


def without_example(things: Iterable[tuple[str, Any]]) -> list[str]:
    """The functions and classes among named things whose docstring has no example."""
    named = ((name, inspect.unwrap(thing)) for name, thing in things)
    return [name for name, t in named if (inspect.isfunction(t) or inspect.isclass(t)) and not examples(t)]


def examples(thing: Any) -> str:
    """The source of the examples in a docstring."""
    found = doctest.DocTestParser().get_examples(inspect.unwrap(thing).__doc__ or "")
    return "".join(example.source for example in found)


def members_without_example(kind: type) -> Iterator[str]:
    """The public methods and properties of a class that neither their own examples show nor those of the class."""
    shown = set(re.findall(r"\.(\w+)", examples(kind)))
    for name, member in vars(kind).items():
        can_be_shown = inspect.isroutine(member) or isinstance(member, property | cached_property)
        if can_be_shown and not name.startswith("_") and name not in shown:
            function = getattr(member, "fget", None) or getattr(member, "func", None)
            if not examples(function or getattr(kind, name)):
                yield f"{kind.__name__}.{name}"


class Finder(doctest.DocTestFinder):
    """Finds cached properties too, and what is wrapped, as every function is while types are checked."""

    def _from_module(self, module: ModuleType | None, object: Any) -> bool:  # the name is doctest's
        function = object.func if isinstance(object, cached_property) else object
        return super()._from_module(module, inspect.unwrap(function) if callable(function) else function)


def failures(module: ModuleType) -> list[str]:
    """What the examples of a module print that is not what they say."""
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    for test in Finder(exclude_empty=True).find(module, module.__name__):
        runner.run(test, out=said.append)
    return said


def modules_with_examples() -> list[str]:
    paths = [path for folder in ("interp", "analyses") for path in sorted((ROOT / folder).rglob("*.py"))]
    named = [path.relative_to(ROOT).with_suffix("").parts for path in paths if ">>> " in path.read_text()]
    full = [(() if parts[0] == "interp" else ("interp",)) + parts for parts in named]
    return [".".join(parts[:-1] if parts[-1] == "__init__" else parts) for parts in full]


def test_everything_that_a_notebook_meets_has_an_example():
    assert without_example(of_notebooks()) == []


@pytest.mark.parametrize("kind", SHOWN)
def test_every_method_and_property_is_shown(kind: type):
    assert list(members_without_example(kind)) == []


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_are_true(name: str):
    module = import_module(name)
    written = Path(str(module.__file__)).read_text().count(">>> ")
    found = sum(len(test.examples) for test in Finder(exclude_empty=True).find(module, name))
    assert found == written, "an example is where doctest does not look"
    assert failures(module) == []


def planted(source: str) -> ModuleType:
    module = ModuleType("planted")
    exec(source, vars(module))  # the source is one of those below
    return module


def test_a_wrong_example_is_caught():
    source = 'def double(x):\n    """Twice x.\n\n    >>> double(2)\n    {}\n    """\n    return 2 * x'
    assert failures(planted(source.format(4))) == []
    [complaint] = failures(planted(source.format(5)))
    assert "Expected:\n    5\nGot:\n    4" in complaint


def test_a_wrong_example_of_a_cached_property_is_caught():
    source = (
        "from functools import cached_property\nclass C:\n    @cached_property\n"
        '    def n(self):\n        """>>> C().n\n        {}\n        """\n        return 4'
    )
    assert failures(planted(source.format(4))) == []
    assert len(failures(planted(source.format(5)))) == 1


def test_an_example_that_warns_is_caught():
    source = '"""\n>>> import warnings\n>>> warnings.warn("beware")\n"""'
    assert "UserWarning: beware" in "".join(failures(planted(source)))


def test_a_missing_example_is_caught():
    module = planted(
        'def f():\n    """>>> f()"""\ndef g():\n    """Nothing."""\ndef h():\n    pass\nclass C:\n    pass\nx = 1'
    )
    assert without_example((name, getattr(module, name)) for name in ("f", "g", "h", "C", "x")) == ["g", "h", "C"]


def test_a_method_or_property_that_nothing_shows_is_caught():
    class Planted:
        """>>> Planted().shown"""

        def method(self):
            """>>> Planted().method()"""

        @property
        def shown(self):
            return 1

        @cached_property
        def hidden(self):
            return 2

        @classmethod
        def of(cls):
            return cls()

    assert list(members_without_example(Planted)) == ["Planted.hidden", "Planted.of"]
