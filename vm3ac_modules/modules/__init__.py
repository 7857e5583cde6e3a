"""Every tensordict module: latent sampler, actors, predictors and critics."""

from vm3ac_modules._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
