"""What would be imported, before anything is written: every tensor, every guess, the proof, and a mapping file."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from interp.errors import InputError
from interp.interchange.importing.alternatives import said, word
from interp.interchange.importing.reading import Known, Reading, read
from interp.interchange.importing.recognition import tensors_of
from interp.interchange.importing.sources import Source
from interp.interchange.layouts.assignment import Piece
from interp.interchange.layouts.candidates import Guess, of_roles
from interp.interchange.layouts.mapping import mapping_of, mapping_to_fill_in
from interp.interchange.layouts.matching import nearest
from interp.interchange.layouts.tables import LAYOUTS, Rule
from interp.printable import one_line


class Description(NamedTuple):
    """What a dry run says, the mapping file that says the same, and whether anything fits."""

    text: str
    mapping: str
    fits: bool


def describe(sources: Sequence[Source], known: Known) -> Description:
    """The assignment with every guess, and what running it proves; of what fits nothing, why."""
    last = sources[-1]
    head = [f"{len(sources)} checkpoints, steps {sources[0].step} to {last.step}; the last: {last.where}"]
    head += dict.fromkeys(note for source in sources for note in source.notes)
    try:
        reading = read(sources, known)
    except InputError as error:
        return _of_nothing(last, head, error)
    pieces = reading.candidate.pieces_of(reading.guess)
    ours: dict[str, list[str]] = {}
    for name, piece in pieces.items():
        for theirs in piece.theirs:
            ours.setdefault(theirs, []).append(f"{name}{_how(piece)}")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors_of(last).items()}
    lines = [*head, f"layout {reading.layout!r} ({reading.candidate.title}) fits"]
    lines += [f"  {name!r} {list(shape)}: {'; '.join(ours.get(name, ['left out']))}" for name, shape in shapes.items()]
    lines += [f"note: {note}" for note in reading.notes]
    lines += [f"{word(question)}: {said(option)}" for question, option in reading.guess.items() if _is_told(option)]
    facts = reading.facts
    lines += [f"assumed: {text}" for text in facts["assumed"]]
    proof = f"accuracy {facts['accuracy']:.4g}, loss {facts['loss']:.3g}, {facts['operation']}"
    lines.append(
        f"proved: {proof}; {facts['runs']} readings run"
        if facts["verified"]
        else f"not proved: {'; '.join(facts['doubts'])}; {facts['likely_causes']}"
    )
    mapping = mapping_of_reading(reading, pieces, shapes)
    return Description("\n".join([*map(one_line, lines), "", mapping]), mapping, True)


def mapping_of_reading(reading: Reading, pieces: Mapping[str, Piece], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The mapping file of a reading."""
    drop = tuple(name for name in shapes if name not in reading.candidate.used)
    tokens = reading.guess.get("tokens")
    return mapping_of(pieces, _fields(reading.guess, reading), tokens, drop)


_OF_MODEL = ("n_heads", "activation", "causal", "norm_kind", "norm_order", "epsilon")


def _fields(guess: Guess, reading: Reading) -> dict[str, Any]:
    """What was guessed of the model, as `[model]` has it."""
    fields = {name: guess[name] for name in _OF_MODEL if name in guess}
    if reading.model.family == "transformer":
        fields = {"n_heads": reading.model.n_heads, **fields}
        assignment = reading.candidate.assignment
        if assignment is not None:
            width, of_keys = assignment.facts["head_widths"]
            fields |= {"n_kv": reading.model.n_heads * of_keys // width} if width != of_keys else {}
        if reading.model.attention_rate != 1:
            fields["attention_rate"] = reading.model.attention_rate
    if guess.get("scaled_embedding"):
        fields["scaled_embedding"] = True
    if guess.get("score_scale", "√d_head") != "√d_head":
        fields["score_scale"] = guess["score_scale"]
    if guess.get("answer_at", -1) != -1:
        fields["answer_at"] = guess["answer_at"]
    kind, places, order = guess.get("without_parameters", ("none", (), "pre"))
    if kind != "none":
        fields["without_parameters"] = [kind, *places, order]
    positions = dict(guess.get("positions") or ())
    if "rotary_base" in positions:
        fields |= {
            "rotary_base": positions["rotary_base"],
            "rotary_planes": "neighbors" if positions["interleaved"] else "halves",
        }
    elif positions:
        fields["sinusoids"] = positions["positions"]
    return fields


def _how(piece: Piece) -> str:
    """Which part of a tensor a piece is."""
    found = ""
    if piece.part is not None:
        found = f", part {piece.part + 1} of {piece.parts}"
    if piece.cut is not None:
        axis, start, stop = piece.cut
        found += f", {('rows', 'columns')[axis]} {start} to {stop}"
    left, right = (" ".join(side.split()) for side in piece.pattern.split("->"))
    return f"{found}, {left} -> {right}" if left != right else found


def _is_told(option: Any) -> bool:
    """Whether an option is worth a line: not a thing that is not there."""
    return option not in (False, -1, (), "√d_head", ("none", (), "pre"))


def _of_nothing(last: Source, head: list[str], error: InputError) -> Description:
    """Why nothing fits, what the tensors are by their names and shapes, or where these do not tell, in the nearest
    layout, and a mapping file to fill in."""
    if (found := _of_roles(last)) is not None:
        pieces, heads, left = found
        ours: dict[str, list[str]] = {}
        for name, piece in pieces.items():
            for theirs in piece.theirs:
                ours.setdefault(theirs, []).append(f"{name}{_how(piece)}")
        lines = [*head, f"nothing fits: {error}", "by names and shapes, before anything is run:"]
        lines += [f"  {one!r} {list(of)}: {'; '.join(ours.get(one, ['no part']))}" for one, of in last.shapes.items()]
        without = "".join(f"# no part: {one!r} {of}\n" for one, of in left.items())
        mapping = mapping_of(pieces, heads, None, ()) + without
        return Description("\n".join([*map(one_line, lines), "", mapping]), mapping, False)
    shapes = last.shapes
    miss = nearest(list(LAYOUTS.values()), shapes)
    by_name: dict[str, Rule] = {}
    if miss is not None:
        by_name = {entry.theirs: Rule(ours, entry.rule.pattern) for ours, entry in miss.tensors.items()}
    lines = [*head, f"nothing fits: {error}"]
    lines += [
        f"  {name!r} {list(shape)}: {by_name[name].ours if name in by_name else 'not recognized'}"
        for name, shape in shapes.items()
    ]
    mapping = mapping_to_fill_in(shapes, by_name)
    return Description("\n".join([*map(one_line, lines), "", mapping]), mapping, False)


def _of_roles(last: Source) -> tuple[Mapping[str, Piece], dict[str, Any], dict[str, list[int]]] | None:
    """What the tensors of a near miss are, with the number of heads that it takes for granted, and those without a
    part; None where names and shapes do not tell enough."""
    try:
        tensors = tensors_of(last)
        candidate = of_roles(tensors, {}, None)
        pieces = candidate.pieces_of(candidate.default)
    except InputError:
        return None
    heads = {"n_heads": candidate.default["n_heads"]} if "n_heads" in candidate.default else {}
    left = {name: list(tensor.shape) for name, tensor in tensors.items() if name not in candidate.used}
    return pieces, heads, left
