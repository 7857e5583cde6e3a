"""Plain networks: tensors in, tensors out, no keys."""

from vm3ac_modules.nn.actors import LatentGaussianNet
from vm3ac_modules.nn.blocks import AgentLinear, AgentMLP, agent_linear
from vm3ac_modules.nn.critics import CentralizedCriticNet
from vm3ac_modules.nn.predictors import PairNet

__all__ = [
    "AgentLinear",
    "AgentMLP",
    "CentralizedCriticNet",
    "LatentGaussianNet",
    "PairNet",
    "agent_linear",
]
