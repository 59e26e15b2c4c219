"""What a notebook shows: the numbers of what is shown, and texts as texts."""

import re
from dataclasses import replace

import pytest

import interp
from interp.experiment import Task
from interp.explanation import explain
from interp.testing import circuit_checkpoint, circuit_neurons


@pytest.fixture(scope="module")
def run():
    return interp.open_run(interp.reference_path())


def text(shown: str) -> str:
    return re.sub("<[^>]*>", " ", shown)


def test_a_run(run):
    shown = run._repr_html_()
    for words in ("add modulo 43", "53", "from step 0 to 3,000", run.hash):
        assert words in text(shown)
    curves = re.findall("points='([^']*)'", shown)
    assert len(curves) == 2
    assert [len(points.split()) for points in curves] == [run.metrics.sizes["step"]] * 2
    assert curves[1].split()[-1] == "420.0,3.0"  # test accuracy ends at 1


def test_a_run_without_checkpoints(tmp_path, run, written_run):
    shown = written_run(tmp_path / "run", run.task, run.model, steps=())._repr_html_()
    assert "<svg" not in shown
    assert "0" in text(shown)


def test_a_checkpoint(run):
    assert "3, 11, 12" in text(run[3000]._repr_html_())
    assert "accuracy 100.0%" in text(run[3000]._repr_html_())
    planted = circuit_checkpoint(Task(11, split="unknown"), circuit_neurons([3]))
    assert "unknown" in text(planted._repr_html_())


def test_an_explanation(run):
    story = explain(run)
    shown = text(story._repr_html_()).replace("&#39;", "'")
    for words in (story.headline, *story.paragraphs, *story.unsaid, "121 of 128"):
        assert words in shown


def test_texts_are_escaped(run):
    evil = "<img src=x onerror=alert(1)>"
    story = replace(explain(run), headline=evil, paragraphs=(evil,), against=(evil,))
    assert "<img" not in story._repr_html_()
    assert story._repr_html_().count("&lt;img") == 3
