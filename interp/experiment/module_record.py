"""What is known of a module of anybody's that was run over all pairs, and whose answers were kept."""

from dataclasses import dataclass

from interp.errors import InputError, check_integer


@dataclass(frozen=True, kw_only=True)
class ModuleRecord:
    """What a checkpoint of a module holds: its `parameters`, by name and shape, and what it answered, the logits
    [p, p, p]. Where they were asked for also as many `neurons` [p, p, neurons], an `embedding` W_E [p, embedding] and
    an `unembedding` W_U [unembedding, p]; 0 where they were not. `source` says in words which module it was, and
    `classes` how many it has, of which the first p are kept (0: as many as there are residues).

    >>> record = ModuleRecord(source="Net", parameters=(("fc.weight", (7, 24)),), neurons=24)
    >>> record.holds
    ('neurons',)
    """

    source: str = ""
    parameters: tuple[tuple[str, tuple[int, ...]], ...] = ()
    neurons: int = 0
    embedding: int = 0
    unembedding: int = 0
    classes: int = 0

    def __post_init__(self) -> None:
        for name in ("neurons", "embedding", "unembedding", "classes"):
            check_integer(f"model.module.{name}", getattr(self, name), 0, 100_000_000)
        for name, shape in self.parameters:
            for size in shape:
                check_integer(f"a size of model.module.parameters {name!r}", size, 0, 2**40)
        if len({name for name, _ in self.parameters}) < len(self.parameters):
            raise InputError("model.module.parameters names one parameter twice")

    @property
    def holds(self) -> tuple[str, ...]:
        """What was recorded beside the logits.

        >>> ModuleRecord().holds
        ()
        """
        return tuple(name for name in ("neurons", "embedding", "unembedding") if getattr(self, name))

    @property
    def in_words(self) -> str:
        """One line.

        >>> ModuleRecord(source="Net", parameters=(("fc.weight", (7, 24)),), neurons=24, classes=8).in_words
        'Net, 1 parameter tensor; recorded: logits (of 8 classes the residues), 24 neurons'
        """
        n = len(self.parameters)
        logits = f"logits (of {self.classes} classes the residues)" if self.classes else "logits"
        parts = [logits, *([f"{self.neurons} neurons"] if self.neurons else [])]
        parts += [f"{name} of {getattr(self, name)}" for name in ("embedding", "unembedding") if getattr(self, name)]
        return f"{self.source}, {n} parameter tensor{'s' * (n != 1)}; recorded: {', '.join(parts)}"
