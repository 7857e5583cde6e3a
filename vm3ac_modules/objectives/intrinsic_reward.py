r"""The pointwise bound of the mutual information as an intrinsic reward.

Shapes: ``*B`` batch, ``N`` agents, ``A`` action, ``K`` extra latents. Source: Kim et al. 2023,
arXiv:2303.00451, Eqs. (8), (46).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.data import Composite, TensorSpec, Unbounded
from torchrl.envs import Transform

from vm3ac_modules.functional.information import gaussian_log_density, mixture_log_prob
from vm3ac_modules.functional.pairwise import gather_others, gather_pairs
from vm3ac_modules.functional.soft_value import pair_weight as weight_of_pairs
from vm3ac_modules.functional.squashed import squash_log_det
from vm3ac_modules.keys import Keys, require_keys
from vm3ac_modules.modules.categorical_predictor import CategoricalPredictor
from vm3ac_modules.modules.predictor import VariationalPredictor
from vm3ac_modules.objectives.categorical_policy import CategoricalPolicyReader
from vm3ac_modules.objectives.information import information_of
from vm3ac_modules.objectives.options import check_count, check_not_negative
from vm3ac_modules.objectives.policy import PolicyReader, extra_head_log_prob

__all__ = ["MutualInformationReward"]

# Actions at the edge of their range have no finite pre-image; float32 ends here.
_EDGE = 1.0 - 1e-6


class MutualInformationReward(Transform):
    r"""Add what joint actions tell about each other to the reward.

    .. math:: r_i \leftarrow r_i + w \frac1N \sum_{j \ne i}
        \mathrm{clip}\big[\log q_{\xi_i}(a_j | a_i, s) - \log \pi_K(a_j | s)\big]

    Without the clip its mean over the policy's actions is the lower bound (8) with :math:`H_K`. It
    is for hosts whose loss you cannot change. Append it to the environment, before the host's own
    transforms; random actions without a latent are paid nothing. Or give it to a replay buffer: it
    then scores stored actions with the present networks, and leaves the stored rewards as they are.
    Nothing is trained here: train the predictor with ``loss_predictor`` of a
    :class:`~vm3ac_modules.objectives.MutualInformationLoss` with ``weight=0``. An intrinsic reward
    changes what the critics learn, as the bonus of Eq. (46) does.

    References:
        Kim et al. 2023, https://arxiv.org/abs/2303.00451, Eqs. (8), (46).

    Args:
        policy: the policy that acts, sampler included; shared, not copied.
        predictor: its :class:`~vm3ac_modules.modules.VariationalPredictor`, or
            :class:`~vm3ac_modules.modules.CategoricalPredictor` of a categorical policy; shared.
        weight: w >= 0 (reward per nat).
        num_latents: extra latents K >= 1 of :math:`\log \pi_K`.
        clip: lowest and highest value of a pair (nats); None for no clip.
        schedule: factor on the weight after so many transitions that passed; None for 1.
        pair_weight: ``"paper"`` for 1/N over the sum of partners, ``"mean"`` for 1/(N - 1).
        keys: the tensordict vocabulary.
        out_key: where the information is written (weighted, ``[*B, N, 1]``);
            ``(group, "information_reward")`` by default.

    Raises:
        ValueError: for a negative weight, ``num_latents < 1``, a clip that is no interval, a
            predictor of the other kind of actions, or a reward that is not ``[*B, N, 1]``.
        MissingKeysError: when called without the observations, actions or latents that it reads.

    Example:
        >>> from tensordict import TensorDict
        >>> from torchrl.data import Bounded
        >>> import vm3ac_modules as vm
        >>> spec = Bounded(-1.0, 1.0, (2, 1))
        >>> actor = vm.make_actor(4, 3, spec)
        >>> policy = vm.make_policy(vm.LatentSampler(vm.GaussianPrior(3)), actor)
        >>> reward = MutualInformationReward(policy, vm.VariationalPredictor(4, spec), weight=0.1)
        >>> td = policy(TensorDict({"agents": {"observation": torch.zeros(5, 2, 4)}}, [5]))
        >>> td["next", "agents", "reward"] = torch.zeros(5, 2, 1)
        >>> bool((reward(td)["next", "agents", "reward"] != 0).all())
        True

    See Also:
        :class:`~vm3ac_modules.objectives.MutualInformationLoss`, which needs no critic to learn it.
    """

    def __init__(
        self,
        policy: TensorDictModuleBase,
        predictor: VariationalPredictor | CategoricalPredictor,
        *,
        weight: float = 0.1,
        num_latents: int = 16,
        clip: tuple[float, float] | None = (-5.0, 5.0),
        schedule: Callable[[int], float] | None = None,
        pair_weight: Literal["paper", "mean"] = "paper",
        keys: Keys | None = None,
        out_key: NestedKey | None = None,
    ) -> None:
        check_not_negative(weight=weight)
        check_count(num_latents=num_latents)
        if num_latents < 1:
            raise ValueError(
                f"num_latents must be at least 1, got {num_latents}: for K = 0 an "
                "action's own latent alone explains it, and nothing is paid."
            )
        ends = clip if clip is None or isinstance(clip, Sequence) else (clip,)
        if ends is not None and not (len(ends) == 2 and ends[0] < ends[1]):
            raise ValueError(f"clip must be (lowest, highest) in nats, got {clip}.")
        weight_of_pairs(1, pair_weight)
        self.keys = Keys() if keys is None else keys
        name = self.keys.of_agents("information_reward") if out_key is None else out_key
        super().__init__(in_keys=[self.keys.reward], out_keys=[self.keys.reward, name])
        information = information_of(
            policy, predictor, num_latents=num_latents, latent="stored", owner=type(self).__name__
        )
        self.reader: PolicyReader | CategoricalPolicyReader = information.reader
        # In a tuple: the policy and predictor are another's modules, not this one's.
        self.networks = (policy, predictor)
        self.out_key, self.num_latents, self.clip = name, num_latents, clip
        self.schedule, self.pair_weight, self.base_weight = schedule, pair_weight, weight
        self.register_buffer("transitions", torch.zeros((), dtype=torch.int64))

    @property
    def weight(self) -> float:
        """The weight at this point of the schedule."""
        factor = 1.0 if self.schedule is None else self.schedule(int(self.transitions))
        weight = self.base_weight * factor
        if not math.isfinite(weight):
            raise ValueError(f"{type(self).__name__}: the schedule gave {factor}.")
        return weight

    @torch.no_grad()
    def information(self, tensordict: TensorDictBase) -> Tensor:
        """What every agent's action tells about its partners', pair by pair.

        Args:
            tensordict: observations, stored actions and their latent, ``[*B]``.

        Returns:
            ``log q_i(a_j|a_i, s) - log pi_K(a_j|s)`` (nats), ``[*B, N, N - 1]``, not clipped.
        """
        predictor: Any = self.networks[1]
        read = [*self.reader.data_keys, self.keys.action, *predictor.in_keys]
        require_keys(tensordict, read, type(self).__name__)
        action = tensordict.get(self.keys.action)
        like = action if action.is_floating_point() else tensordict.get(self.reader.in_keys[0])
        latent, extra = self.reader.noise_latents(tensordict.batch_size, self.num_latents, like)
        if isinstance(self.reader, PolicyReader):
            scores = predictor.partner_log_prob(
                action, action, tensordict.get(self.keys.observation), normalized=True
            )
            log_prob = self._gaussian(self.reader, tensordict, action, latent, extra)
        else:
            own = self.reader.log_prob(tensordict, latent)
            one_hot = self._one_hot(action, own)
            parts = self.reader.many_log_prob(tensordict, extra).movedim(-3, -1)
            log_prob = (mixture_log_prob(own, parts) * one_hot).sum(-1)
            found = predictor(tensordict.select(*predictor.in_keys))
            scores = gather_pairs(found.get(predictor.out_keys[0]))
        partners = gather_others(log_prob.unsqueeze(-1)).squeeze(-1)
        return scores - partners

    def _gaussian(
        self,
        reader: PolicyReader,
        tensordict: TensorDictBase,
        action: Tensor,
        latent: Tensor,
        extra: Tensor,
    ) -> Tensor:
        """``log pi_K`` of the stored actions, ``[*B, N]``."""
        center, half_range = reader.center.to(action), reader.half_range.to(action)
        pre_squash = ((action - center) / half_range).clamp(-_EDGE, _EDGE).atanh()
        loc, scale = reader.heads(tensordict, latent)
        own = gaussian_log_density(pre_squash, loc, scale) - squash_log_det(pre_squash, half_range)
        heads = extra_head_log_prob(reader, tensordict, extra, pre_squash, half_range)
        return mixture_log_prob(own, heads)

    @staticmethod
    def _one_hot(action: Tensor, log_prob: Tensor) -> Tensor:
        """Actions as weights, ``[*B, N, A]``."""
        if action.shape == log_prob.shape:
            return action.to(log_prob)
        action = action.squeeze(-1) if action.ndim == log_prob.ndim else action
        return torch.nn.functional.one_hot(action, log_prob.shape[-1]).to(log_prob)

    # --- a transform ----------------------------------------------------------------------------

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Change the rewards of stored transitions, as a replay buffer's or a batch's transform.

        What is stored stays: a copy of the batch has other rewards.
        """
        require_keys(tensordict, [("next", *self.keys.reward)], type(self).__name__)
        tensordict = tensordict.copy()
        return tensordict.set("next", self._pay(tensordict, tensordict.get("next").copy()))

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        if any(tensordict.get(key, None) is None for key in self.reader.data_keys):
            # Random actions of a warm-up or of check_env_specs: no latent was drawn.
            reward = next_tensordict.get(self.keys.reward)
            return next_tensordict.set(self.out_key, torch.zeros_like(reward))
        return self._pay(tensordict, next_tensordict)

    def _pay(self, tensordict: TensorDictBase, following: TensorDictBase) -> TensorDictBase:
        pairs = self.information(tensordict)
        if self.clip is not None:
            pairs = pairs.clamp(*self.clip)
        weight = self.weight * weight_of_pairs(pairs.shape[-2], self.pair_weight)
        paid = (weight * pairs.sum(-1)).unsqueeze(-1)
        require_keys(following, [self.keys.reward], type(self).__name__)
        reward = following.get(self.keys.reward)
        if reward.shape != paid.shape:
            raise ValueError(
                f"{type(self).__name__}: rewards must be [*B, N, 1], {list(paid.shape)}, got "
                f"{list(reward.shape)}: expand the team's reward to its agents."
            )
        following.set(self.keys.reward, reward + paid)
        following.set(self.out_key, paid)
        self.transitions += tensordict.batch_size.numel()
        return following

    def _reset(
        self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        parent = self.parent
        assert parent is not None
        return tensordict_reset.set(self.out_key, parent.full_reward_spec[self.keys.reward].zero())

    def transform_observation_spec(self, observation_spec: Composite) -> Composite:
        """The information is an entry of what is observed; policies need not read it."""
        assert self.parent is not None
        spec = self.parent.full_reward_spec[self.keys.reward]
        observation_spec[self.out_key] = Unbounded(spec.shape, device=spec.device, dtype=spec.dtype)
        return observation_spec

    def transform_reward_spec(self, reward_spec: TensorSpec) -> TensorSpec:
        """Rewards are no longer bounded by the environment's."""
        spec = self.parent.full_reward_spec if self.parent is not None else None
        assert spec is not None
        own = spec[self.keys.reward]
        reward_spec[self.keys.reward] = Unbounded(own.shape, device=own.device, dtype=own.dtype)
        return reward_spec
