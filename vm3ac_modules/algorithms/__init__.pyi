from vm3ac_modules.algorithms.builders import Sizes as Sizes
from vm3ac_modules.algorithms.discrete import DiscreteAgent as DiscreteAgent
from vm3ac_modules.algorithms.discrete import build_discrete as build_discrete
from vm3ac_modules.algorithms.discrete_presets import DISCRETE_ALGORITHMS as DISCRETE_ALGORITHMS
from vm3ac_modules.algorithms.discrete_presets import DISCRETE_COMMON as DISCRETE_COMMON
from vm3ac_modules.algorithms.discrete_presets import (
    resolve_discrete_knobs as resolve_discrete_knobs,
)
from vm3ac_modules.algorithms.presets import ALGORITHMS as ALGORITHMS
from vm3ac_modules.algorithms.presets import COMMON as COMMON
from vm3ac_modules.algorithms.presets import resolve_knobs as resolve_knobs
from vm3ac_modules.algorithms.registry import Agent as Agent
from vm3ac_modules.algorithms.registry import build as build
from vm3ac_modules.algorithms.registry import group_sizes as group_sizes
