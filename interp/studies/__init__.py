"""Questions put to many runs: a design, a prediction, a verdict."""

from interp.studies.conducting import conduct
from interp.studies.design import VERDICTS, Design
from interp.studies.directory import NAMES, find
from interp.studies.outcomes import RunOutcome, outcomes
from interp.studies.phase_diagram import phase_diagram

__all__ = ["NAMES", "VERDICTS", "Design", "RunOutcome", "conduct", "find", "outcomes", "phase_diagram"]
