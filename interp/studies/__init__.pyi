from .conducting import conduct as conduct
from .design import VERDICTS as VERDICTS
from .design import Design as Design
from .directory import NAMES as NAMES
from .directory import find as find
from .outcomes import RunOutcome as RunOutcome
from .outcomes import outcomes as outcomes
from .phase_diagram import phase_diagram as phase_diagram
