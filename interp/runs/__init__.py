"""A run on disk: its format, its reader, its writer, and the checkpoints in it."""

from interp.runs.absences import missing_in_words, missing_steps
from interp.runs.beginning import begin_run, is_run_to_replace, new_run
from interp.runs.checkpoint import Checkpoint, HasWeights, Weighted
from interp.runs.circuit_derivatives import BY_TENSOR, CircuitDerivatives, Moment
from interp.runs.description import configuration, configuration_differences, describe
from interp.runs.ending import Ending, ending_of, events_of
from interp.runs.format import (
    FIRST_STEP,
    LAST_STEP,
    ON_GPU,
    ON_GPU_TF32,
    TOKEN_TABLES,
    as_step,
    check_sum,
    step_name,
    weights_digest,
    with_sum,
)
from interp.runs.lines import finite
from interp.runs.listing import list_runs, run_folders
from interp.runs.loop_state import load_loop_state, loop_state_tensors, save_loop_state, write_loop_state
from interp.runs.observations import (
    ObservedGradients,
    check_observations_before,
    contradictions_of_observations,
    is_observed,
    noted_observations,
    observed_gradients,
    remedy_of_observations,
    write_observed,
)
from interp.runs.phase_pairs import centred_logits, phase_pairs
from interp.runs.remedies import remedy
from interp.runs.run import Run, check_has_phases, open_run
from interp.runs.thinning import keep_only, remove_states, thin
from interp.runs.verification import Verification, verify
from interp.runs.writer import RunWriter

__all__ = [
    "BY_TENSOR",
    "FIRST_STEP",
    "LAST_STEP",
    "ON_GPU",
    "ON_GPU_TF32",
    "TOKEN_TABLES",
    "Checkpoint",
    "CircuitDerivatives",
    "Ending",
    "HasWeights",
    "Moment",
    "ObservedGradients",
    "Run",
    "RunWriter",
    "Verification",
    "Weighted",
    "as_step",
    "begin_run",
    "centred_logits",
    "check_has_phases",
    "check_observations_before",
    "check_sum",
    "configuration",
    "configuration_differences",
    "contradictions_of_observations",
    "describe",
    "ending_of",
    "events_of",
    "finite",
    "is_observed",
    "is_run_to_replace",
    "keep_only",
    "list_runs",
    "load_loop_state",
    "loop_state_tensors",
    "missing_in_words",
    "missing_steps",
    "new_run",
    "noted_observations",
    "observed_gradients",
    "open_run",
    "phase_pairs",
    "remedy",
    "remedy_of_observations",
    "remove_states",
    "run_folders",
    "save_loop_state",
    "step_name",
    "thin",
    "verify",
    "weights_digest",
    "with_sum",
    "write_loop_state",
    "write_observed",
]
