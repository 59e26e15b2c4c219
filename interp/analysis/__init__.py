"""What an analysis is, finding them, running them over a run, and their results on disk."""

from interp.analysis.axes import axes
from interp.analysis.contract import Analysis, Scale, discover, find
from interp.analysis.keeping import keeper
from interp.analysis.recomputation import verify_results
from interp.analysis.results import load_result, result_path, save_result
from interp.analysis.series import measure_series
from interp.analysis.steps import steps_to_show
from interp.analysis.tables import write_tables
from interp.analysis.walk import PartlyAnalyzed, analyze, measure_checkpoint, results_at, stored_result

__all__ = [
    "Analysis",
    "PartlyAnalyzed",
    "Scale",
    "analyze",
    "axes",
    "discover",
    "find",
    "keeper",
    "load_result",
    "measure_checkpoint",
    "measure_series",
    "result_path",
    "results_at",
    "save_result",
    "steps_to_show",
    "stored_result",
    "verify_results",
    "write_tables",
]
