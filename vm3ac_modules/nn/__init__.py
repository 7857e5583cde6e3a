"""Plain networks: tensors in, tensors out, no keys."""

from vm3ac_modules.nn.actors import DeterministicNet, LatentCategoricalNet, LatentGaussianNet
from vm3ac_modules.nn.attention import AttentionCriticNet
from vm3ac_modules.nn.blocks import AgentLinear, AgentMLP, agent_linear
from vm3ac_modules.nn.critics import CentralizedCriticNet
from vm3ac_modules.nn.decomposed_critic import DecomposedCriticNet
from vm3ac_modules.nn.discriminators import JointNet
from vm3ac_modules.nn.episode_discriminator import EpisodeDiscriminatorNet
from vm3ac_modules.nn.hypernetworks import HyperPairNet
from vm3ac_modules.nn.lica_critic import LICACritic
from vm3ac_modules.nn.linear_policy import LinearLatentPolicy, action_covariance
from vm3ac_modules.nn.mixers import FOPMixer, LinearMixer, QMixer
from vm3ac_modules.nn.next_actions import NextActionNet
from vm3ac_modules.nn.predictors import PairNet
from vm3ac_modules.nn.recurrent import AgentGRU, RecurrentPolicyNet
from vm3ac_modules.nn.utilities import LatentUtilityNet
from vm3ac_modules.nn.value_head import ValueHead

__all__ = [
    "AgentGRU",
    "AgentLinear",
    "AgentMLP",
    "AttentionCriticNet",
    "CentralizedCriticNet",
    "DecomposedCriticNet",
    "DeterministicNet",
    "EpisodeDiscriminatorNet",
    "FOPMixer",
    "HyperPairNet",
    "JointNet",
    "LICACritic",
    "LatentCategoricalNet",
    "LatentGaussianNet",
    "LatentUtilityNet",
    "LinearLatentPolicy",
    "LinearMixer",
    "NextActionNet",
    "PairNet",
    "QMixer",
    "RecurrentPolicyNet",
    "ValueHead",
    "action_covariance",
    "agent_linear",
]
