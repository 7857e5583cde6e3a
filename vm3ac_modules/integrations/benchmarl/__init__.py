"""VM3-AC and its twin as algorithms of BenchMARL, in an environment of their own (docs/benchmarl.md)."""

from vm3ac_modules._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
