"""The state of one checkpoint, in one of six words."""

import math
from dataclasses import dataclass

from interp.mathematics import grokking
from interp.mathematics.held_out import CLEAR, FEWEST_HELD_OUT

STATES = ("start", "memorizing", "both", "generalizing", "lost", "unknown")
# Of the loss of a guess: from here on a network is at chance. Of its training pairs: below this it does not know them.
# Of the norm that it began with: below this its weights were crushed.
AT_CHANCE, KNOWN, CRUSHED = 0.9, 0.5, 0.5
# Held-out accuracy is above chance when it is this much, and clear of its standard error, above what the most frequent
# answer alone gets right.
LEAST_ACCURACY = 0.1


@dataclass(frozen=True)
class Known:
    """What a state is told from; NaN (None) where unknown.

    The accuracies on train and held-out pairs at the checkpoint, and the loss on train pairs, of what it was trained
    on; the highest train accuracy that was logged before; the norm of all weights there and at the first
    checkpoint; whether it has a circuit (`Spectrum.has_circuit`), and whether the generalizing part of its logits
    answers (`Competition.generalizes`); how many pairs are held out, and how many of them are independent; the
    number of classes; and the accuracy of whoever always gives the most frequent answer (`Task.guessing_accuracy`),
    1/classes at least; and the loss of outputs that are all zero, where it is not that of the cross-entropy, ln
    classes."""

    train_accuracy: float
    held_out_accuracy: float
    train_loss: float
    has_circuit: bool
    part_answers: bool | None
    knew_before: float
    norm: float
    first_norm: float
    held_out_pairs: int
    independent: int
    classes: int
    guessed: float = 0.0
    guess_loss: float | None = None


def is_above_chance(accuracy: float, guessed: float, independent: int) -> bool:
    """Whether an accuracy on so many independent pairs is clear of what the most frequent answer alone gets right.

    >>> is_above_chance(0.13, 1 / 43, 305), is_above_chance(0.13, 0.13, 305), is_above_chance(0.05, 0.02, 3000)
    (True, False, False)
    """
    error = math.sqrt(accuracy * (1 - accuracy) / max(independent, 1))
    return accuracy >= LEAST_ACCURACY and accuracy - guessed > CLEAR * error


def state_of(known: Known) -> str:
    """The state of a checkpoint:

    unknown       the split is unknown, or fewer than 20 independent pairs are held out (but for `start` and `lost`)
    generalizing  99 % of the held-out pairs (all but two, where there are fewer than 200)
    start         knows less than half of the training pairs, at a loss of 90 % of a guess or more, and never knew more
    lost          knows less than half of the training pairs, and knew more before, or has less than half of the norm
                  that it began with
    both          knows something of held-out pairs: it has a circuit that answers them better than a guess, or the
                  generalizing part of its logits answers them, or its accuracy on them is above 10 % and clear of
                  chance
    memorizing    otherwise

    >>> grokked = Known(1.0, 1.0, 1e-7, True, True, 1.0, 22.0, 27.0, 526, 272, 43)
    >>> from dataclasses import replace
    >>> states = [state_of(replace(grokked, held_out_accuracy=0.5)), state_of(replace(grokked, independent=10))]
    >>> [state_of(grokked), *states]
    ['generalizing', 'both', 'unknown']
    """
    if math.isnan(known.train_accuracy):
        return "unknown"
    is_judged = known.independent >= FEWEST_HELD_OUT
    if is_judged and known.held_out_accuracy >= grokking.level_for(known.held_out_pairs) - 1e-9:
        return "generalizing"
    if known.train_accuracy < KNOWN:
        if known.knew_before >= KNOWN or known.norm < CRUSHED * known.first_norm:
            return "lost"
        chance_loss = math.log(known.classes) if known.guess_loss is None else known.guess_loss
        if not known.train_loss < AT_CHANCE * chance_loss and not known.has_circuit:
            return "start"
    if not is_judged:
        return "unknown"
    chance = max(1 / known.classes, known.guessed)
    is_clear = is_above_chance(known.held_out_accuracy, chance, known.independent)
    return "both" if known.has_circuit or known.part_answers or is_clear else "memorizing"
