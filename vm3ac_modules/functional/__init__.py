"""The paper's algebra as pure functions of tensors: no state, no keys, no configuration."""

from vm3ac_modules.functional.categorical import (
    ILLEGAL,
    categorical_entropy,
    draw_categorical,
    epsilon_floor,
    expectation,
    gumbel_noise,
    masked_log_softmax,
)
from vm3ac_modules.functional.correlation import (
    action_latent_information,
    marginal_log_prob,
    pairwise_information,
)
from vm3ac_modules.functional.dependence import (
    Dependence,
    information_with_entropy,
    largest_canonical_correlation,
    normalized_dependence,
    within_state_covariance,
)
from vm3ac_modules.functional.episodes import last_transitions, masked_mean, previous_actions
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
    "ILLEGAL",
    "BoundParts",
    "Dependence",
    "PolicyObjective",
    "SoftValueTarget",
    "SquashedSample",
    "action_latent_information",
    "action_value_target",
    "barber_agakov_bound",
    "bound_gap",
    "categorical_entropy",
    "categorical_log_density",
    "constant_rate_schedule",
    "draw_categorical",
    "epsilon_floor",
    "expectation",
    "fill_diagonal_zero",
    "gather_others",
    "gather_pairs",
    "gaussian_log_density",
    "gumbel_noise",
    "influence",
    "information_with_entropy",
    "largest_canonical_correlation",
    "last_transitions",
    "latent_variance_share",
    "leave_one_out_log_prob",
    "linear_schedule",
    "marginal_log_prob",
    "masked_log_softmax",
    "masked_mean",
    "mixture_log_prob",
    "normalized_dependence",
    "others_index",
    "own_first",
    "own_gradient_joint_action",
    "pair_sum",
    "pair_weight",
    "pairwise_information",
    "policy_objective",
    "previous_actions",
    "sample_squashed_gaussian",
    "scatter_others",
    "soft_value_target",
    "squared_error",
    "squash",
    "squash_log_det",
    "symmetric_bound",
    "within_state_covariance",
]
