"""Losses: TorchRL ``LossModule`` objects over the components."""

from vm3ac_modules.objectives.actor_critic import CentralizedActorCriticLoss
from vm3ac_modules.objectives.algorithms import MAACLoss, MASACLoss, VM3ACLoss
from vm3ac_modules.objectives.diagnostics import InformationEstimates, estimate_information
from vm3ac_modules.objectives.mutual_information import MutualInformationLoss
from vm3ac_modules.objectives.policy import PolicyReader
from vm3ac_modules.objectives.regularizers import (
    ActionMIRegularizer,
    EntropyRegularizer,
    NoRegularizer,
    Regularizer,
)

__all__ = [
    "ActionMIRegularizer",
    "CentralizedActorCriticLoss",
    "EntropyRegularizer",
    "InformationEstimates",
    "MAACLoss",
    "MASACLoss",
    "MutualInformationLoss",
    "NoRegularizer",
    "PolicyReader",
    "Regularizer",
    "VM3ACLoss",
    "estimate_information",
]
