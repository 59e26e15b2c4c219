"""Verdicts follow their definitions, and every number of the story is one of the summaries."""

import pytest

from interp.explain import VERDICTS, tell, verdict

CURVES = {
    "memorized_at": 100,
    "generalized_at": 900,
    "generalized_at_sustained": 950,
    "unmirrored_generalized_at": 975,
    "logging_interval": 25,
    "lowest_test_accuracy_since": 0.9951,
    "last_step": 3000,
    "final_train_loss": 1e-7,
    "final_test_loss": 2e-6,
    "final_train_accuracy": 1.0,
    "final_test_accuracy": 0.998,
    "highest_test_loss": 9.4,
    "highest_test_loss_at": 100,
    "overfits_at_the_end": False,
}
OTHERS = {
    "embedding_spectrum": {
        "step": 3000,
        "key_frequencies": [3, 11],
        "logit_shares": {"3": 0.6, "11": 0.35},
        "key_frequencies_by_neurons": [3, 11, 17],
        "only_by_weights_and_logits": [],
        "only_by_neurons": [17],
        "gini_embedding": 0.6,
        "gini_output": 0.7,
    },
    "neuron_periodicity": {"step": 3000, "neurons": 128, "periodic_neurons": 121},
    "weight_norms": {"first_l2": 21.4, "highest_l2": 31.3, "highest_l2_at": 100, "last_l2": 22.6},
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "grokking"),
        ({"memorized_at": 316}, "grokking"),
        ({"memorized_at": 317}, "comprehension"),  # 950 < 3 · 317
        ({"memorized_at": 0, "generalized_at_sustained": 50}, "comprehension"),  # two logging intervals are no delay
        ({"memorized_at": 0, "generalized_at_sustained": 75}, "grokking"),
        ({"memorized_at": None}, "comprehension"),
        ({"generalized_at_sustained": None}, "collapse"),
        ({"generalized_at": None, "generalized_at_sustained": None}, "memorization"),
        ({"memorized_at": None, "generalized_at": None, "generalized_at_sustained": None}, "confusion"),
        ({"final_test_accuracy": None}, "unknown"),
        ({"final_train_accuracy": None, "memorized_at": None}, "unknown"),
    ],
)
def test_verdict(change, expected):
    assert verdict(CURVES | change) == expected


@pytest.mark.parametrize("kind", VERDICTS)
def test_every_verdict_has_a_story(kind):
    changes = {
        "grokking": {},
        "comprehension": {"memorized_at": 600},
        "memorization": {"generalized_at": None, "generalized_at_sustained": None},
        "confusion": {"memorized_at": None, "generalized_at": None, "generalized_at_sustained": None},
        "collapse": {"generalized_at_sustained": None},
        "unknown": {"final_test_accuracy": None, "memorized_at": None, "generalized_at": None, "generalized_at_sustained": None},
    }
    story = tell({"learning_curves": CURVES | changes[kind], **OTHERS})
    assert story.verdict == kind
    assert story.headline == VERDICTS[kind]
    assert "None" not in story.paragraph


def test_the_story_tells_the_numbers_and_the_disagreement():
    story = tell({"learning_curves": CURVES, **OTHERS})
    for number in ("step 100", "step 950", "9.5 times", "99.5%", "121 of 128", "3 (60%), 11 (35%)", "name 17", "31.3"):
        assert number in story.paragraph
    assert {fact.label: fact.value for fact in story.facts}["key frequencies"] == "3, 11"


def test_no_key_frequency_is_said_to_be_none():
    spectrum = OTHERS["embedding_spectrum"] | {"key_frequencies": [], "logit_shares": {}}
    story = tell({"learning_curves": CURVES, **OTHERS, "embedding_spectrum": spectrum})
    assert "no frequency is key" in story.paragraph
    assert {fact.label: fact.value for fact in story.facts}["key frequencies"] == "none"
