"""Games with exact mutual information, slow twins, a falsifier of would-be bounds, a stub of SMAC.

Nothing is imported before it is asked for (PEP 562): the oracles need torch only, the strategies
and assertions need hypothesis (``pip install 'vm3ac-modules[testing]'``).
"""

from vm3ac_modules._lazy import attach

_HYPOTHESIS = ("hypothesis", "testing")

__getattr__, __dir__, __all__ = attach(
    __name__,
    __file__,
    {f"{__name__}.{module}": _HYPOTHESIS for module in ("assertions", "coordinated", "strategies")},
)
