"""The paper's algebra as pure functions of tensors: no state, no keys, no configuration."""

from vm3ac_modules.functional.influence import influence
from vm3ac_modules.functional.information import (
    BoundParts,
    barber_agakov_bound,
    bound_gap,
    categorical_log_density,
    gaussian_log_density,
    latent_variance_share,
    leave_one_out_log_prob,
    mixture_log_prob,
    symmetric_bound,
)
from vm3ac_modules.functional.pairwise import (
    fill_diagonal_zero,
    gather_others,
    gather_pairs,
    others_index,
    own_first,
    own_gradient_joint_action,
    pair_sum,
    scatter_others,
)
from vm3ac_modules.functional.schedules import constant_rate_schedule, linear_schedule
from vm3ac_modules.functional.soft_value import (
    PolicyObjective,
    SoftValueTarget,
    action_value_target,
    pair_weight,
    policy_objective,
    soft_value_target,
    squared_error,
)
from vm3ac_modules.functional.squashed import (
    SquashedSample,
    sample_squashed_gaussian,
    squash,
    squash_log_det,
)

__all__ = [
    "BoundParts",
    "PolicyObjective",
    "SoftValueTarget",
    "SquashedSample",
    "action_value_target",
    "barber_agakov_bound",
    "bound_gap",
    "categorical_log_density",
    "constant_rate_schedule",
    "fill_diagonal_zero",
    "gather_others",
    "gather_pairs",
    "gaussian_log_density",
    "influence",
    "latent_variance_share",
    "leave_one_out_log_prob",
    "linear_schedule",
    "mixture_log_prob",
    "others_index",
    "own_first",
    "own_gradient_joint_action",
    "pair_sum",
    "pair_weight",
    "policy_objective",
    "sample_squashed_gaussian",
    "scatter_others",
    "soft_value_target",
    "squared_error",
    "squash",
    "squash_log_det",
    "symmetric_bound",
]
