"""This computer: its files, its memory, its threads and processes.

Each name is loaded when it is asked for, so that torch can be told how to wait before it is there; the list
is `__init__.pyi`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
