"""What the numbers say, in words: of one run, or of several side by side."""

from interp.explanation.comparison import Comparison, Side, compare
from interp.explanation.comparison_tables import HOW, closing, plain, tables
from interp.explanation.curves import Curves, explain_curves
from interp.explanation.explanation import EVIDENCE, Explanation, evidence_of, explain, explanation_of
from interp.explanation.recorded import RecordedCurves

__all__ = [
    "EVIDENCE",
    "HOW",
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
    "tables",
]
