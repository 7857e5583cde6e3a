"""A run: its directory, logs, checkpoints, and the way back to a trained agent."""

from vm3ac_modules._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
