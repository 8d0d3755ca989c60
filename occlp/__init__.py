"""Finite Markov decision processes through occupancy measures.

``import occlp as oc``; see `oc.MDP`, `oc.Problem`, `oc.solve` and `oc.compare`. Names are loaded on first
use, so that importing the package costs next to nothing; ``__init__.pyi`` lists them.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__version__ = "0.1.0"
