"""What the numbers say, in words: of one run, or of several side by side.

Each name is loaded when it is asked for, so that what is light waits for nothing heavy; the list is `__init__.pyi`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
