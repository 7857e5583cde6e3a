"""Decentralized execution: agents that compute their latent alone, one file and process each."""

from vm3ac_modules._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
