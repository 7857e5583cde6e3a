r"""The algorithms: the centralized actor-critic with its terms, under the names of the field.

Shapes: ``*S`` seeds (absent in an ordinary run), ``*B`` batch, ``N`` agents.

Source: Kim et al. 2023, arXiv:2303.00451, Section 6 and Eqs. (11), (45)-(50).
"""

from __future__ import annotations

from typing import Any, Literal

from tensordict.nn import TensorDictModuleBase

from vm3ac_modules.modules.predictor import VariationalPredictor
from vm3ac_modules.objectives.actor_critic import CentralizedActorCriticLoss
from vm3ac_modules.objectives.pairs import Estimator
from vm3ac_modules.objectives.terms import EntropyTerm, MutualInformationTerm

__all__ = ["MAACLoss", "MASACLoss", "VM3ACLoss"]


class VM3ACLoss(CentralizedActorCriticLoss):
    r"""VM3-AC: the return plus a variational lower bound of the actions' mutual information.

    .. math:: J_i = E \sum_t \gamma^t [ r_t + \beta H_K(a_i|s)
        + \beta w \sum_{j \ne i} (\log q_i(a_j|a_i) + \log q_i(a_i|a_j)) ]

    References:
        Kim et al. 2023, arXiv:2303.00451, Eqs. (11), (45)-(50), Algorithm 1.

    Args:
        actor_network: the policy, sampler included.
        qvalue_network: the action values.
        value_network: the state values.
        predictor_network: the variational predictor.
        beta: temperature >= 0, a number or one per agent ``[N]``.
        num_latents: extra latents K of the entropy family; 0 is the paper's form.
        pair_weight: ``"paper"`` for w = 1/N, ``"mean"`` for w = 1/(N - 1).
        reverse_model: whose model predicts agent i from j: ``"own"`` (the paper) or ``"partner"``.
        estimator: of the mutual information: ``"barber_agakov"`` (the paper), or ``"infonce"``,
            ``"nwj"`` or ``"donsker_varadhan"``, which compare with actions under the extra latents
            and put their estimate, less H_K, in the place of log q (``num_latents`` of at least 1,
            2 and 2); then ``mi_estimate`` (nats) is logged too.
        pairs: partners k of every agent, drawn anew for every transition, that enter the sum over
            j, weighed by (N - 1)/k; None for all N - 1. Losses of policies and predictor, and all
            gradients, keep their expectation, and the predictor costs k/(N - 1) of what it does;
            the values' targets get noisier. A pair that was not drawn is 0 in the logged matrices.
        options: passed to :class:`CentralizedActorCriticLoss`.

    Example:
        See :class:`CentralizedActorCriticLoss`.
    """

    def __init__(
        self,
        actor_network: TensorDictModuleBase,
        qvalue_network: TensorDictModuleBase,
        value_network: TensorDictModuleBase,
        predictor_network: VariationalPredictor,
        *,
        beta: float | list[float] = 0.1,
        num_latents: int = 0,
        pair_weight: Literal["paper", "mean"] = "paper",
        reverse_model: Literal["own", "partner"] = "own",
        estimator: Estimator = "barber_agakov",
        pairs: int | None = None,
        **options: Any,
    ) -> None:
        term = MutualInformationTerm(
            predictor_network, beta, num_latents, pair_weight, reverse_model, estimator, pairs
        )
        super().__init__(actor_network, qvalue_network, value_network, terms=[term], **options)


class MAACLoss(CentralizedActorCriticLoss):
    """MA-AC: the return alone (beta = 0, no latent).

    References:
        Kim et al. 2023, arXiv:2303.00451, Section 6.

    Args:
        actor_network: the policy.
        qvalue_network: the action values.
        value_network: the state values.
        options: passed to :class:`CentralizedActorCriticLoss`.

    Example:
        >>> from torchrl.data import Bounded
        >>> from vm3ac_modules.modules.actors import make_actor
        >>> from vm3ac_modules.modules.critics import make_action_value, make_state_value
        >>> actor = make_actor(4, 0, Bounded(-1.0, 1.0, (2, 1)))
        >>> loss = MAACLoss(actor, make_action_value(4, 1, 2), make_state_value(4, 2))
        >>> list(loss.parameter_groups())
        ['loss_actor', 'loss_qvalue', 'loss_value']
    """

    def __init__(
        self,
        actor_network: TensorDictModuleBase,
        qvalue_network: TensorDictModuleBase,
        value_network: TensorDictModuleBase,
        **options: Any,
    ) -> None:
        super().__init__(actor_network, qvalue_network, value_network, **options)


class MASACLoss(CentralizedActorCriticLoss):
    r"""MA-SAC: the return plus each policy's entropy, at a fixed temperature.

    .. math:: J_i = E \sum_t \gamma^t [ r_t + \beta H_K(a_i|s) ]

    Without a latent :math:`H_K` is the entropy. With one, K > 0 makes it the marginal entropy from
    below, Eq. (7): what VM3-AC has besides its predictor.

    References:
        Kim et al. 2023, arXiv:2303.00451, Section 6; Haarnoja et al. 2018, arXiv:1801.01290.

    Args:
        actor_network: the policy.
        qvalue_network: the action values.
        value_network: the state values.
        beta: temperature >= 0, a number or one per agent ``[N]``.
        num_latents: extra latents K >= 0.
        options: passed to :class:`CentralizedActorCriticLoss`.

    Example:
        >>> from torchrl.data import Bounded
        >>> from vm3ac_modules.modules.actors import make_actor
        >>> from vm3ac_modules.modules.critics import make_action_value, make_state_value
        >>> actor = make_actor(4, 0, Bounded(-1.0, 1.0, (2, 1)))
        >>> MASACLoss(actor, make_action_value(4, 1, 2), make_state_value(4, 2)).terms[0].beta
        tensor(0.1000)
    """

    def __init__(
        self,
        actor_network: TensorDictModuleBase,
        qvalue_network: TensorDictModuleBase,
        value_network: TensorDictModuleBase,
        *,
        beta: float | list[float] = 0.1,
        num_latents: int = 0,
        **options: Any,
    ) -> None:
        terms = [EntropyTerm(beta, num_latents)]
        super().__init__(actor_network, qvalue_network, value_network, terms=terms, **options)
