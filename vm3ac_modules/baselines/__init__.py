"""The algorithms that VM3-AC is compared with, each with its loss and the modules it needs."""

from vm3ac_modules.baselines.maddpg import MADDPGLoss
from vm3ac_modules.baselines.maven import EpisodeLatentPolicy, LatentDiscriminator, MAVENLoss
from vm3ac_modules.baselines.next_action import NextAction
from vm3ac_modules.baselines.si_moa import SIMOALoss, SocialInfluence

__all__ = [
    "EpisodeLatentPolicy",
    "LatentDiscriminator",
    "MADDPGLoss",
    "MAVENLoss",
    "NextAction",
    "SIMOALoss",
    "SocialInfluence",
]
