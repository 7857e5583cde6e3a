"""One VM3-AC update in plain torch: what the library's abstractions are weighed against.

The arithmetic is that of ``VM3ACLoss`` with K = 0, a constant predictor scale without normalizer,
and plain critics on all observations (Kim et al. 2023, arXiv:2303.00451, Eqs. (45)-(50)).
"""

from __future__ import annotations

import itertools
import math

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["PlainVM3AC"]

HIDDEN = 128


def make_mlp(copies: int, fan_in: int, fan_out: int) -> list[Tensor]:
    """Weights and biases of ``copies`` networks of two hidden layers, stacked."""
    params = []
    widths = [fan_in, HIDDEN, HIDDEN, fan_out]
    for rows, columns in itertools.pairwise(widths):
        bound = 1 / math.sqrt(rows)
        for shape in ((copies, rows, columns), (copies, 1, columns)):
            params.append(torch.empty(shape).uniform_(-bound, bound).requires_grad_())
    return params


def mlp(x: Tensor, params: list[Tensor]) -> Tensor:
    """Apply stacked networks to ``[copies, B, in]``."""
    w1, b1, w2, b2, w3, b3 = params
    x = torch.baddbmm(b1, x, w1).relu()
    x = torch.baddbmm(b2, x, w2).relu()
    return torch.baddbmm(b3, x, w3)


class PlainVM3AC:
    """Parameters, optimizers and the update, all by hand; tensors are ``[N, B, features]``.

    Args:
        num_agents: number of agents N.
        td: a sampled batch ``[B]`` of continuous transitions.
        beta: temperature (reward per nat).
        gamma: discount per step.
        tau: share of the online network in the target after an update.
        lr: learning rate of Adam.
        sigma: standard deviation of the predictor.
    """

    def __init__(
        self,
        num_agents: int,
        td: TensorDictBase,
        *,
        beta: float,
        gamma: float,
        tau: float,
        lr: float,
        sigma: float,
    ) -> None:
        self.n, self.beta, self.gamma, self.tau, self.sigma = num_agents, beta, gamma, tau, sigma
        self.batch = td
        self._read()
        n, o, a = num_agents, self.obs.shape[-1], self.act.shape[-1]
        self.latent_dim = 8
        self.actor = make_mlp(n, o + self.latent_dim, 2 * a)
        with torch.no_grad():
            self.actor[-1][..., a:] = -2.0
        self.critic = make_mlp(2 * n, n * (o + a), 1)
        self.value = make_mlp(n, n * o, 1)
        self.target = [p.detach().clone() for p in self.value]
        self.predictor = make_mlp(n, a + 2 * o + 2 * n, a)
        groups = (self.actor, self.critic, self.value, self.predictor)
        self.optimizers = [torch.optim.Adam(group, lr=lr, fused=True) for group in groups]
        others = [[j for j in range(n) if j != i] for i in range(n)]
        self.others = torch.tensor(others)
        self.order = torch.tensor([[i, *others[i]] for i in range(n)])
        eye, own = torch.eye(n), torch.arange(n).unsqueeze(1).expand(n, n - 1)
        ids = torch.cat((eye[own], eye[self.others]), -1)  # partner direction: c = own, t = other
        ids_rev = torch.cat((eye[self.others], eye[own]), -1)
        batch = self.obs.shape[1]
        self.ids = ids.unsqueeze(2).expand(-1, -1, batch, -1)
        self.ids_rev = ids_rev.unsqueeze(2).expand(-1, -1, batch, -1)

    def _read(self) -> None:
        """Take a sampled batch apart, agents first."""
        td = self.batch
        self.obs = td["agents", "observation"].transpose(0, 1)
        self.act = td["agents", "action"].transpose(0, 1)
        self.next_obs = td["next", "agents", "observation"].transpose(0, 1)
        self.reward = td["next", "agents", "reward"].squeeze(-1).transpose(0, 1)
        self.alive = (~td["next", "terminated"]).float().squeeze(-1)

    def _join(self, x: Tensor) -> Tensor:
        """Own row first: ``[N, B, F]`` to ``[N, B, N * F]``."""
        return x[self.order].transpose(1, 2).flatten(-2)

    def _q(self, x: Tensor, params: list[Tensor]) -> Tensor:
        """Both critics, ``[2, N, B]``."""
        out = mlp(x.repeat(2, 1, 1), params)
        return out.view(2, self.n, -1)

    def _log_q(
        self, condition: Tensor, target: Tensor, params: list[Tensor], reverse: bool
    ) -> Tensor:
        """Sum over partners of the (unnormalized) log-density, ``[N, B]``."""
        n, k = self.n, self.n - 1
        own = (slice(None), None)
        o_own, o_other = self.obs[own].expand(n, k, -1, -1), self.obs[self.others]
        if reverse:
            inputs = (condition[self.others], o_other, o_own, self.ids_rev)
            goal = target[own]
        else:
            inputs = (condition[own].expand(n, k, -1, -1), o_own, o_other, self.ids)
            goal = target[self.others]
        x = torch.cat(inputs, -1).flatten(1, 2)
        mean = mlp(x, params).tanh().view(n, k, -1, goal.shape[-1])
        return -0.5 * ((goal - mean) / self.sigma).square().sum(-1).sum(1)

    def draw_noise(self) -> tuple[Tensor, Tensor]:
        """One latent per transition, ``[B, Z]``, and standard normals, ``[N, B, A]``."""
        return torch.randn(self.obs.shape[1], self.latent_dim), torch.randn_like(self.act)

    def _draw(self, z: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        inputs = torch.cat((self.obs, z.expand(self.n, -1, -1)), -1)
        loc, raw = mlp(inputs, self.actor).chunk(2, -1)
        log_std = raw.clamp(-5.0, 2.0)
        u = loc + log_std.exp() * noise
        normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        log_prob = (normal - 2.0 * (math.log(2.0) - u - softplus(-2.0 * u))).sum(-1)
        return u.tanh(), log_prob

    def losses(self, z: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """The four losses of Eqs. (45), (47), (49), (50)."""
        self._read()
        joint_obs, next_joint_obs = self._join(self.obs), self._join(self.next_obs)
        frozen_q = [p.detach() for p in self.critic]
        frozen_p = [p.detach() for p in self.predictor]
        action, log_prob = self._draw(z, noise)
        fixed = action.detach()
        weight = self.beta / self.n
        joint = torch.cat((action.unsqueeze(1), fixed[self.others]), 1).transpose(1, 2).flatten(-2)
        q = self._q(torch.cat((joint_obs, joint), -1), frozen_q)
        shaped = self._log_q(action, fixed, frozen_p, reverse=False)
        pairs = self._log_q(fixed, fixed, self.predictor, reverse=False)
        pairs = pairs + self._log_q(fixed, fixed, self.predictor, reverse=True)
        # The reverse term is a constant for the policies: it is in the value, not in the gradient.
        reverse = (pairs - shaped).detach()
        actor = -q[0] + self.beta * log_prob - weight * (shaped + reverse)
        with torch.no_grad():
            target_v = q.amin(0) - self.beta * log_prob + weight * pairs
            next_v = mlp(next_joint_obs, self.target).squeeze(-1)
            target_q = self.reward + self.gamma * self.alive * next_v
        value = mlp(joint_obs, self.value).squeeze(-1)
        stored = torch.cat((joint_obs, self._join(self.act)), -1)
        q_stored = self._q(stored, self.critic)
        return {
            "loss_actor": actor.sum(0).mean(),
            "loss_qvalue": 0.5 * (q_stored - target_q).square().sum((0, 1)).mean(),
            "loss_value": 0.5 * (value - target_v).square().sum(0).mean(),
            "loss_predictor": -pairs.sum(0).mean() / (self.n * (self.n - 1)),
        }

    def update(self) -> None:
        """One gradient step of every group and of the target."""
        torch.stack(list(self.losses(*self.draw_noise()).values())).sum().backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        torch._foreach_lerp_(self.target, [p.detach() for p in self.value], self.tau)
