"""Losses: TorchRL ``LossModule`` objects over the components."""

from vm3ac_modules.objectives.actor_critic import CentralizedActorCriticLoss
from vm3ac_modules.objectives.algorithms import MAACLoss, MASACLoss, VM3ACLoss
from vm3ac_modules.objectives.base import MultiAgentLoss
from vm3ac_modules.objectives.diagnostics import (
    BOUNDS,
    Bound,
    InformationEstimates,
    estimate_information,
)
from vm3ac_modules.objectives.episodic import EpisodicLoss
from vm3ac_modules.objectives.fop import FOPLoss
from vm3ac_modules.objectives.host import HostError, check_host
from vm3ac_modules.objectives.intrinsic_reward import MutualInformationReward
from vm3ac_modules.objectives.mutual_information import MutualInformationLoss
from vm3ac_modules.objectives.policy import PolicyReader
from vm3ac_modules.objectives.terms import EntropyTerm, MutualInformationTerm, Term
from vm3ac_modules.objectives.vm3ac_discrete import VM3FOPLoss

__all__ = [
    "BOUNDS",
    "Bound",
    "CentralizedActorCriticLoss",
    "EntropyTerm",
    "EpisodicLoss",
    "FOPLoss",
    "HostError",
    "InformationEstimates",
    "MAACLoss",
    "MASACLoss",
    "MultiAgentLoss",
    "MutualInformationLoss",
    "MutualInformationReward",
    "MutualInformationTerm",
    "PolicyReader",
    "Term",
    "VM3ACLoss",
    "VM3FOPLoss",
    "check_host",
    "estimate_information",
]
