"""The bar of a training: in a notebook one element that is drawn anew, on a terminal a bar, elsewhere nothing."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from interp.figures import in_words, training_bar


def test_where_nobody_looks_nothing_is_said(capfd: pytest.CaptureFixture[str]):
    with training_bar(10, "training") as update:
        update(5, "loss 1.0")
    assert capfd.readouterr() == ("", "")


def test_a_terminal_has_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with training_bar(10, "training") as update:
        update(10, "loss [bold]")
    said = capsys.readouterr()
    assert "10/10" in said.err
    assert "loss [bold]" in said.err  # words are no markup
    assert said.out == ""  # it belongs to the answer


def test_a_notebook_has_one_element(monkeypatch: pytest.MonkeyPatch):
    drawn = []

    class Handle:
        def update(self, html):
            drawn.append(html)

    def display(html, display_id):
        drawn.append(html)
        return Handle()

    shell = ModuleType("IPython")
    shell.get_ipython = lambda: SimpleNamespace(kernel=None)  # pyright: ignore[reportAttributeAccessIssue]
    shown = ModuleType("IPython.display")
    shown.HTML, shown.display = str, display  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    with training_bar(1000, "training <mine>") as update:
        update(500, "loss < 1")
    first, last = drawn
    assert "training &lt;mine&gt;" in first
    assert 'value="500" max="1000"' in last
    assert "loss &lt; 1" in last


def test_without_test_pairs_it_says_so():
    assert in_words({"train_loss": 0.5, "train_accuracy": 1, "test_accuracy": float("nan")}).endswith("no test pairs")
