"""Plain networks: tensors in, tensors out, no keys."""

from vm3ac_modules.nn.actors import DeterministicNet, LatentGaussianNet
from vm3ac_modules.nn.attention import AttentionCriticNet
from vm3ac_modules.nn.blocks import AgentLinear, AgentMLP, agent_linear
from vm3ac_modules.nn.critics import CentralizedCriticNet
from vm3ac_modules.nn.discriminators import JointNet
from vm3ac_modules.nn.hypernetworks import HyperPairNet
from vm3ac_modules.nn.mixers import FOPMixer, LinearMixer, QMixer
from vm3ac_modules.nn.next_actions import NextActionNet
from vm3ac_modules.nn.predictors import PairNet
from vm3ac_modules.nn.recurrent import AgentGRU, RecurrentPolicyNet

__all__ = [
    "AgentGRU",
    "AgentLinear",
    "AgentMLP",
    "AttentionCriticNet",
    "CentralizedCriticNet",
    "DeterministicNet",
    "FOPMixer",
    "HyperPairNet",
    "JointNet",
    "LatentGaussianNet",
    "LinearMixer",
    "NextActionNet",
    "PairNet",
    "QMixer",
    "RecurrentPolicyNet",
    "agent_linear",
]
