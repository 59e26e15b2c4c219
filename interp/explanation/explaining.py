"""The verb `explain`: what was told before of the same run is told again, without looking."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from interp.analysis import Answers
from interp.explanation.told import Explanation
from interp.runs import Run, as_step, folder_of, open_run

# The analyses of `requested_sentences.REQUESTED`, whose results may come later; listed here to load nothing heavy.
REQUESTED_NAMES = (
    "description_length",
    "curvature",
    "graduation",
    "label_noise",
    "class_scores",
    "checkpoint_shift",
)


def explain(
    run: Run | str | Path,
    step: int | None = None,
    *,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps,
    parallel: bool = False,
) -> Explanation:
    """What happened in a run, and by which circuit, with the evidence for and against, at one checkpoint (default: the
    last). `run` is a run or its folder. Raises InputError, naming the nearest, for a step not saved.

    It is kept with the run: of a run that did not change, and was asked nothing more, it is told again without reading
    a checkpoint (`interp.analysis.answers`).

    >>> import interp
    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> from tempfile import TemporaryDirectory
    >>> pizza = circuit_checkpoint(interp.Task(13), circuit_neurons([1, 2]))
    >>> with TemporaryDirectory() as folder:
    ...     with interp.RunWriter.create(f"{folder}/run", pizza.task, pizza.model) as writer:
    ...         writer.append(0, pizza.weights)
    ...     numbers = explain(f"{folder}/run").numbers["checkpoint"]
    >>> numbers["circuit"], [key["frequency"] for key in numbers["key_frequencies"]], numbers["state"]
    ('pizza', [1, 2], 'generalizing')
    """
    step = None if step is None else as_step(step)
    folder = folder_of(run)
    answers, asked = Answers(folder), {} if step is None else {"step": step}
    told = answers.find("explain", asked)
    if told is not None and told["results"] == answers.results(REQUESTED_NAMES):
        return Explanation.from_json(told["explanation"])
    # Opened anew: what was read before may be of another state of the folder than the answer is kept for.
    explanation = _explained(open_run(folder), step, progress, parallel)
    answers.keep("explain", asked, {"explanation": explanation.as_json, "results": answers.results(REQUESTED_NAMES)})
    return explanation


def _explained(
    run: Run, step: int | None, progress: Callable[[Sequence[int]], Iterable[int]], parallel: bool
) -> Explanation:
    from interp.analysis import analyze
    from interp.experiment import Operations
    from interp.explanation.explanation import evidence_of, explanation_of
    from interp.explanation.requested_sentences import requested_results
    from interp.runs import check_has_phases

    if not isinstance(run.task, Operations):
        check_has_phases(run, "an explanation")
    names = evidence_of(run)
    if step is not None and step not in run.steps:
        run[step]  # raises, naming the nearest
    results = analyze(run, names, progress=progress, parallel=parallel)
    return explanation_of(run, results | requested_results(run), step)
