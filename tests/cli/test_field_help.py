"""Every field of an experiment that is an option has a line of help, and no line is about a field that there is not."""

import ast
import inspect
import re
from dataclasses import fields, is_dataclass
from typing import get_type_hints

import pytest

from interp.cli import main
from interp.cli.field_help import HELP
from interp.experiment import KINDS, SECTIONS, ModelConfig, Operations, Samples


def configurations() -> list[type]:
    kinds = [*SECTIONS.values(), *(kind for others in KINDS.values() for kind in others.values())]
    nested = [within for kind in kinds for within in get_type_hints(kind).values() if is_dataclass(within)]
    return list(dict.fromkeys([*kinds, *nested]))


def explained_one_by_one(kind: type) -> set[str]:
    """The fields that a string follows, which is what their help shows."""
    [tree] = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    return {
        str(ast.unparse(field.target))
        for field, after in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }


@pytest.mark.parametrize("kind", configurations(), ids=lambda kind: kind.__name__)
def test_every_field_has_a_line(kind: type):
    hints = get_type_hints(kind)
    options = {
        one.name for one in fields(kind) if one.metadata.get("option", True) and not is_dataclass(hints[one.name])
    }
    if kind.__name__ == "ModuleRecord":  # it says what was recorded, and is given by nobody
        assert kind.__name__ not in HELP
        return
    lines = HELP.get(kind.__name__, {})
    assert options - explained_one_by_one(kind) == set(lines)
    assert all(line[0].strip() and line.endswith(".") and len(line) < 110 for line in lines.values())


def test_no_line_is_about_a_class_that_there_is_not():
    assert set(HELP) <= {kind.__name__ for kind in configurations()}
    assert {Samples.__name__, Operations.__name__} <= set(HELP)


def test_help_shows_the_lines_and_leaves_the_classes_as_they_were(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    before = dict(ModelConfig.__annotations__)
    assert main(["train", "--help"]) == 0
    shown = re.sub(r"[│\s]+", " ", capsys.readouterr().out)
    for line in ("The modulus: residues are 0 … p−1.", "Draws the first weights.", "The learning rate, after warmup."):
        assert line in shown
    assert ModelConfig.__annotations__ == before
