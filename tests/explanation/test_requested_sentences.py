"""Sentences of analyses that were asked for before: all of them, and none where there is no result."""

import shutil
from pathlib import Path

import pytest

import interp
from interp.analysis import analyze, discover
from interp.explanation import REQUESTED, explain, requested_sentence
from interp.explanation.requested_sentences import requested_results, requested_sentences
from interp.runs import Run

QUICK = ("graduation", "label_noise", "class_scores", "checkpoint_shift")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = Path(tmp_path_factory.mktemp("runs"), "reference")
    shutil.copytree(interp.reference_path(), path, ignore=shutil.ignore_patterns("results"))
    return interp.open_run(path)


def test_nothing_is_said_before_and_a_sentence_each_after(run: Run) -> None:
    before = explain(run)
    assert before.requested == ()
    assert "What else was measured" not in before.long
    assert not [name for name in REQUESTED if (run.path / "results" / f"{name}.nc").exists()]
    results = analyze(run, QUICK)
    after = explain(run)
    assert str(after) == str(before)
    assert after.numbers == before.numbers
    assert after.paragraphs == before.paragraphs
    assert len(after.requested) == len(QUICK) == len(requested_results(run))
    assert after.requested == requested_sentences(results)
    text = " ".join(after.requested)
    assert "half of the training pairs are right for good from step 65 on, of the held-out pairs from step 800" in text
    assert "none of which is wrong on purpose" in text
    assert "of 43 classes of the held-out examples 0 have an F1 below 0.9" in text
    assert "F1 1 (0.023), AUC 1 (0.5), KS 1" in text
    assert "95 % of no changes of one interval stay below" in text
    added = after.long.replace(before.long.split("What speaks against it:")[0], "")
    assert added.startswith("What else was measured:")
    assert before.long.endswith(added.split("What speaks against it:")[1])


def test_those_that_take_long_say_what_their_loss_and_their_labels_are() -> None:
    description = {
        "step": 3000,
        "label_bytes": 564.0,
        "at 1 nats": {"last_bytes": 1828.0, "most_bytes": 5874.0, "most_at": 100, "two_part_over_labels": 3.4}
        | {"is_a_compression": False},
    }
    sentence = REQUESTED["description_length"](description)
    assert sentence is not None
    assert "1,828 bytes at step 3,000 (5,874 at step 100" in sentence
    assert sentence.endswith("564 bytes of the training labels by themselves: no compression of them.")
    course = {"first": 20.0, "first_at": 92, "most": 25.0, "most_at": 100, "last": 2.8, "last_at": 3000}
    own = {"highest": course | {"most": 23.6, "last": 4e-5}}
    sentence = REQUESTED["curvature"]({"own": own, "equal": {"highest": course}, "equal_loss": 0.1})
    assert sentence is not None
    assert "at equal loss (0.1 nats)" in sentence
    assert "from 25 at step 100, where it is highest, to 2.8 at step 3,000" in sentence
    sentence = REQUESTED["curvature"]({"own": own, "equal": {"highest": None}, "equal_loss": None})
    assert sentence is not None
    assert "at equal loss, without which that is mostly the loss itself" in sentence


@pytest.mark.parametrize(
    ("name", "nothing"),
    [
        ("description_length", {"at 1 nats": {"last_bytes": None, "two_part_over_labels": None}}),
        ("curvature", {"own": {"highest": None}, "equal": {"highest": None}}),
        ("graduation", {"train": {"share_learned": None}, "held_out": {"share_learned": None}}),
        ("label_noise", {"network": None, "held_out_pairs": None}),
        ("class_scores", {"train": None, "held_out": None}),
        ("checkpoint_shift", {"train": None, "held_out": None}),
    ],
)
def test_what_is_not_known_is_not_said(name: str, nothing: dict) -> None:
    assert REQUESTED[name](nothing) is None


def test_wrong_labels_that_were_found() -> None:
    at = {"step": 900, "flagged": 40, "precision": 0.9, "recall": 0.8, "auc": 0.97, "held_out_accuracy": 0.99}
    found = {"trained": 200, "wrong": 45, "network": None, "held_out_pairs": {"least_loss": at, "last": at}}
    sentence = REQUESTED["label_noise"](found)
    assert sentence is not None
    assert "contradict 40 of 200 training labels, 45 of which are wrong on purpose" in sentence
    assert "AUC of 0.97 (0.50 is a coin" in sentence


def test_only_what_no_story_needs_is_among_them(run: Run) -> None:
    assert all(not discover()[name].core for name in REQUESTED)
    assert requested_sentence("weight_norms", analyze(run, ["weight_norms"])["weight_norms"]) is None
