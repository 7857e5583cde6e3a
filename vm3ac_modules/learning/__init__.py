"""Learning from collected data: updates, hooks, targets, seeds, replay and guards."""

from vm3ac_modules._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
