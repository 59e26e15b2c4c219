"""The words of the page: what a number leads to, findings beside chance, docstrings as paragraphs and formulas."""

import re

import pytest

import interp
from interp.analysis import analyze
from interp.explanation import explain
from interp.pages.story import controls, linked, method

NAMES = dict.fromkeys(
    ("clock_pizza", "transitions", "learning_curves", "progress_measures", "neuron_periodicity", "weight_norms")
)


def targets(html):
    return re.findall(r'<a href="([^"]*)">([^<]*)</a>', html)


def test_steps_lead_to_the_checkpoint_and_numbers_to_their_figure():
    html = linked(
        "At step 2,000 the loss is 4.1e-08; 487 of 512 neurons follow one frequency. Norm of all weights: 57.0.", NAMES
    )
    assert targets(html) == [
        ("#step=2000", "step 2,000"),
        ("#progress_measures", "4.1e-08"),
        ("#neuron_periodicity", "487"),
        ("#neuron_periodicity", "512"),
        ("#weight_norms", "57.0"),
    ]


def test_the_words_stay_as_they_were():
    run = interp.open_run(interp.reference_path())
    story = explain(run)
    for sentence in (*story.paragraphs, *story.against, *story.unsaid):
        html = linked(sentence, NAMES)
        shown = re.sub("<[^>]*>", "", html).replace("&#39;", "'")
        assert shown.replace("\xa0", " ") == sentence
        assert not re.search(r"\d %|k = \d", shown), "no line is broken within these"
        assert {target for target, _ in targets(html) if not target.startswith("#step=")} <= {
            f"#{name}" for name in NAMES
        }


def test_every_number_of_the_story_leads_somewhere():
    run = interp.open_run(interp.reference_path())
    for paragraph in explain(run).paragraphs:
        html = linked(paragraph, analyze(run))
        assert re.findall(r"\d", re.sub("<a .*?</a>|&#39;", "", html)) == []


def test_a_sentence_is_escaped():
    assert "<img" not in linked("loss 3 <img src=x>", NAMES)


def of_all_pairs(run: interp.Run) -> dict:
    """The results, as if the split were not known to who judges frequencies."""
    results = dict(analyze(run))
    results["frequency_evidence"] = results["frequency_evidence"].assign_attrs(judged_by="all pairs")
    return results


def test_findings_stand_beside_chance():
    run = interp.open_run(interp.reference_path())
    found = {control.finding: control for control in controls(analyze(run))}
    assert found["Periodic neurons"].found == "121 of 128"
    assert found["Periodic neurons"].chance == "0 of 128"
    assert [one.finding for one in controls(of_all_pairs(run))] == [name for name in found if "furthest" not in name]
    furthest = found["Frequency furthest beyond chance, in standard deviations"]
    assert float(furthest.found) > 5 * float(furthest.chance) > 10


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("One line\nand another.", [("One line and another.", False)]),
        ("Text:\n\n    x = 1\n      = 2\n\nMore.", [("Text:", False), ("x = 1\n  = 2", True), ("More.", False)]),
        ("Text\n    x = 1\nmore.", [("Text", False), ("x = 1", True), ("more.", False)]),
        ("", []),
    ],
)
def test_formulas_keep_their_lines(docstring, expected):
    assert [tuple(block) for block in method(docstring) if block.text] == expected
