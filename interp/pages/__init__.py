"""Self-contained HTML pages: of a run, of a comparison, of a study. Python here; what runs in the browser
in browser/.

Each name is loaded when it is asked for, so that what is light waits for nothing heavy; the list is `__init__.pyi`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
