"""What the numbers say, in words: of one run, or of several side by side."""

from interp.explanation.comparison import Comparison, Side, compare
from interp.explanation.comparison_tables import HOW, closing, plain, tables
from interp.explanation.curves import Curves, explain_curves
from interp.explanation.explanation import EVIDENCE, Explanation, evidence_of, explain, explanation_of
from interp.explanation.recorded import RecordedCurves
from interp.explanation.requested_sentences import REQUESTED, requested_sentence

__all__ = [
    "EVIDENCE",
    "HOW",
    "REQUESTED",
    "Comparison",
    "Curves",
    "Explanation",
    "RecordedCurves",
    "Side",
    "closing",
    "compare",
    "evidence_of",
    "explain",
    "explain_curves",
    "explanation_of",
    "plain",
    "requested_sentence",
    "tables",
]
