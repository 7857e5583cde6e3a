"""The algorithms that VM3-AC is compared with, each with its loss and the modules it needs."""

from vm3ac_modules.baselines.dop import DOPLoss
from vm3ac_modules.baselines.lica import LICALoss
from vm3ac_modules.baselines.maddpg import MADDPGLoss
from vm3ac_modules.baselines.maven import EpisodeLatentPolicy, LatentDiscriminator, MAVENLoss
from vm3ac_modules.baselines.maven_discrete import MAVENDiscreteLoss
from vm3ac_modules.baselines.next_action import NextAction
from vm3ac_modules.baselines.si_moa import SIMOALoss, SocialInfluence
from vm3ac_modules.baselines.vdac import VDACLoss

__all__ = [
    "DOPLoss",
    "EpisodeLatentPolicy",
    "LICALoss",
    "LatentDiscriminator",
    "MADDPGLoss",
    "MAVENDiscreteLoss",
    "MAVENLoss",
    "NextAction",
    "SIMOALoss",
    "SocialInfluence",
    "VDACLoss",
]
