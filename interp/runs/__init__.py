"""A run on disk: its format, its reader, its writer, and the checkpoints in it."""

from interp.runs.checkpoint import Checkpoint, HasWeights, Weighted
from interp.runs.circuit_derivatives import BY_TENSOR, CircuitDerivatives, Moment
from interp.runs.description import configuration_differences, describe, list_runs
from interp.runs.format import FIRST_STEP, LAST_STEP, as_step, step_name, weights_digest
from interp.runs.loop_state import load_loop_state, loop_state_bytes, save_loop_state, write_loop_state
from interp.runs.phase_pairs import centred_logits, phase_pairs
from interp.runs.run import Run, check_has_phases, open_run
from interp.runs.thinning import thin
from interp.runs.verification import differences
from interp.runs.writer import RunWriter, is_run_to_replace, new_run

__all__ = [
    "BY_TENSOR",
    "FIRST_STEP",
    "LAST_STEP",
    "Checkpoint",
    "CircuitDerivatives",
    "HasWeights",
    "Moment",
    "Run",
    "RunWriter",
    "Weighted",
    "as_step",
    "centred_logits",
    "check_has_phases",
    "configuration_differences",
    "describe",
    "differences",
    "is_run_to_replace",
    "list_runs",
    "load_loop_state",
    "loop_state_bytes",
    "new_run",
    "open_run",
    "phase_pairs",
    "save_loop_state",
    "step_name",
    "thin",
    "weights_digest",
    "write_loop_state",
]
