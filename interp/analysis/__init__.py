"""What an analysis is, finding them, running them over a run, and their results on disk.

Each name is loaded when it is asked for, so that what is light waits for nothing heavy; the list is `__init__.pyi`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
