"""What was asked for before has its section, with one sentence; what no sentence is about has none."""

import shutil
from pathlib import Path

import interp
from interp.analysis import analyze
from interp.explanation import requested_sentence
from interp.pages.page import _section


def test_a_section_says_what_was_measured(tmp_path: Path) -> None:
    shutil.copytree(interp.reference_path(), tmp_path / "run", ignore=shutil.ignore_patterns("results"))
    results = analyze(interp.open_run(tmp_path / "run"), ["graduation", "weight_norms"])
    sections = {name: _section(name, result, []) for name, result in results.items()}
    assert sections["weight_norms"]["sentence"] is None
    sentence = sections["graduation"]["sentence"]
    assert sentence == requested_sentence("graduation", results["graduation"])
    assert sentence.startswith("Graduation: half of the training pairs are right for good from step 65 on")
