"""Losses: TorchRL ``LossModule`` objects over the components."""

from vm3ac_modules.objectives.actor_critic import CentralizedActorCriticLoss
from vm3ac_modules.objectives.algorithms import MAACLoss, MASACLoss, VM3ACLoss
from vm3ac_modules.objectives.diagnostics import InformationEstimates, estimate_information
from vm3ac_modules.objectives.fop import FOPLoss
from vm3ac_modules.objectives.mutual_information import MutualInformationLoss
from vm3ac_modules.objectives.policy import PolicyReader
from vm3ac_modules.objectives.regularizers import (
    ActionMIRegularizer,
    EntropyRegularizer,
    NoRegularizer,
    Regularizer,
)
from vm3ac_modules.objectives.vm3ac_discrete import VM3FOPLoss

__all__ = [
    "ActionMIRegularizer",
    "CentralizedActorCriticLoss",
    "EntropyRegularizer",
    "FOPLoss",
    "InformationEstimates",
    "MAACLoss",
    "MASACLoss",
    "MutualInformationLoss",
    "NoRegularizer",
    "PolicyReader",
    "Regularizer",
    "VM3ACLoss",
    "VM3FOPLoss",
    "estimate_information",
]
