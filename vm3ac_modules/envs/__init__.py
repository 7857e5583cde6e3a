"""Environments with the same keys: VMAS, multi-walker, PettingZoo, SMAX, SMAC, the user's."""

from vm3ac_modules._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
