"""The examples of an experiment: pairs of a table over Z_p, or of several tables, or vectors.

What training, runs and checkpoints may ask of each, over all examples in one order:

    seed, title            what draws the split; what they are in words
    shape                  the leading axes of a table over all examples: (p, p), (operations, p, p), or (n,)
    sizes, n_classes       how many inputs and classes: (p, p) on Z_p, and with several operations how many these are;
                           of vectors, their length and the classes
    inputs                 [n, 2] tokens, [n, 3] with the place of the operation, or [n, features] float32
    labels, defined        what training sees (−1 where there is no answer), and which have an answer
    true_labels, noisy_indices
                           the labels without label noise, and which examples have another one
    split_known, train_indices, mask(split)
                           "train", "validation" (chosen on, and no test examples; none where nothing says so), "test",
                           "held_out" (test examples that no symmetry of the task makes of a trained one),
                           "unmirrored" (those whose mirror was not trained on; where there are no mirrors or
                           symmetries, both are those of "test") or "all"; of several operations also the part of one,
                           such as "add.train" (`splits_of_each`)
    symmetries             the changes of an input that leave its label and are known; of vectors none
    orbits                 for every example the first one that the symmetries make of it
    n_held_out             how many independent examples are held out

Phases, and all that is told in frequencies, are those of a `Task` alone.
"""

from collections.abc import Iterable

from interp.experiment.samples import Samples
from interp.experiment.several_operations import Operations
from interp.experiment.task import Task

Examples = Task | Samples | Operations


def splits_of_each(examples: Examples, splits: Iterable[str]) -> list[str]:
    """The names of these splits for each of several operations, which `mask` knows; none where there are no several.

    >>> splits_of_each(Operations(7, ("add", "random")), ("train", "test"))
    ['add.train', 'add.test', 'random.train', 'random.test']
    >>> splits_of_each(Task(7), ("train", "test"))
    []
    """
    return [f"{one}.{split}" for one in getattr(examples, "operations", ()) for split in splits]
