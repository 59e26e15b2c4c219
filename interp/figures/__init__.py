"""The look of every figure, images of them, words for numbers, and what a notebook shows.

Each name is loaded when it is asked for; the list is `__init__.pyi`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
