"""The arguments that several commands take."""

from pathlib import Path
from typing import Annotated

import tyro

Positional = tyro.conf.Positional
RunPath = Annotated[Positional[Path], tyro.conf.arg(metavar="RUN")]
Output = Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")]
