"""Questions put to many runs: a design, a prediction, a verdict.

Each name is loaded when it is asked for; the list is `__init__.pyi`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
