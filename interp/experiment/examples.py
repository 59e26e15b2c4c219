"""The examples of an experiment: pairs of a table over Z_p, or vectors.

What training, runs and checkpoints may ask of either, over all examples in one order:

    seed, title            what draws the split; what they are in words
    shape                  the leading axes of a table over all examples: (p, p), or (n,)
    sizes, n_classes       how many inputs and classes: (p, p) on Z_p; of vectors, their length and the classes
    inputs                 [n, 2] tokens, or [n, features] float32
    labels, defined        what training sees (−1 where there is no answer), and which have an answer
    split_known, train_indices, mask(split)
                           "train", "validation" (chosen on, and no test examples; none where nothing says so), "test",
                           "held_out" (test examples that no symmetry of the task makes of a trained one),
                           "unmirrored" (those whose mirror was not trained on; where there are no mirrors or
                           symmetries, both are those of "test") or "all"
    symmetries             the changes of an input that leave its label and are known; of vectors none
    n_held_out             how many independent examples are held out

Phases, and all that is told in frequencies, are those of a `Task` alone.
"""

from interp.experiment.samples import Samples
from interp.experiment.task import Task

Examples = Task | Samples
