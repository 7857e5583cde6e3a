"""VM3-AC and its twin as algorithms of BenchMARL, which needs an environment of its own."""

from vm3ac_modules._lazy import attach
from vm3ac_modules.extras import require_version

require_version(
    "benchmarl",
    "1.5.2",
    "1.6",
    __name__,
    "in an environment of its own, pip install -c constraints-benchmarl.txt "
    "'vm3ac-modules[benchmarl,vmas]' (docs/benchmarl.md)",
)

__getattr__, __dir__, __all__ = attach(__name__, __file__)
