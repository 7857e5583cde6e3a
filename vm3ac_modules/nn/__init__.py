"""Plain networks: tensors in, tensors out, no keys."""

from vm3ac_modules.nn.actors import DeterministicNet, LatentGaussianNet
from vm3ac_modules.nn.attention import AttentionCriticNet
from vm3ac_modules.nn.blocks import AgentLinear, AgentMLP, agent_linear
from vm3ac_modules.nn.critics import CentralizedCriticNet
from vm3ac_modules.nn.discriminators import JointNet
from vm3ac_modules.nn.next_actions import NextActionNet
from vm3ac_modules.nn.predictors import PairNet

__all__ = [
    "AgentLinear",
    "AgentMLP",
    "AttentionCriticNet",
    "CentralizedCriticNet",
    "DeterministicNet",
    "JointNet",
    "LatentGaussianNet",
    "NextActionNet",
    "PairNet",
    "agent_linear",
]
