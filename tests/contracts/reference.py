"""A slow reference of Eqs. (45)-(50), written agent by agent with loops over agents and pairs.

It never detaches another agent's action: agent i's own loss is differentiated with respect to its
own parameters alone, which is what the routing of the fast implementation has to amount to.
"""

from __future__ import annotations

import math

import torch
from torch.distributions import Normal
from torch.nn.functional import one_hot

from vm3ac_modules.objectives import EntropyTerm, MutualInformationTerm


def affine(x, layer, index):
    y, bias = x @ layer["weight"][index], layer.get("bias", None)
    return y if bias is None else y + bias[index].reshape(-1)


def network(layers, index, x):
    for name in sorted(layers.keys(), key=int):
        x = affine(x.relu() if name != "0" else x, layers[name], index)
    return x


class Reference:
    """Eqs. (45)-(50) for one batch of a VM3-AC loss, one agent and one pair at a time."""

    def __init__(self, loss, td, noise):
        self.loss, self.td, self.noise = loss, td, noise
        self.num_agents = td["agents", "action"].shape[-2]
        self.low_high = loss.center - loss.half_range, loss.center + loss.half_range
        first = "1" if loss.reader.prior is not None else "0"
        self.phi = loss.actor_network_params["module", first, "net"]
        self.draws = [self.draw(i) for i in range(self.num_agents)]
        self.action = [action for action, _ in self.draws]

    def observation(self, i, *, following=False):
        return (self.td["next"] if following else self.td)["agents", "observation"][..., i, :]

    def head(self, i, latent):
        hidden = affine(self.observation(i), self.phi["observation_layer"], (i,))
        if latent.shape[-1]:
            hidden = hidden + affine(latent, self.phi["latent_layer"], (i,))
        loc, raw = network(self.phi["trunk", "layers"], (i,), hidden.relu()).chunk(2, dim=-1)
        return loc, raw.clamp(-5.0, 2.0).exp()

    def draw(self, i):
        """Action of agent i, and log pi_K of it."""
        loc, scale = self.head(i, self.noise["latent"])
        u = loc + scale * self.noise["action"][..., i, :]
        low, high = self.low_high
        center, half_range = (low + high)[i] / 2, (high - low)[i] / 2
        jacobian = (half_range * (1 - u.tanh() ** 2)).log().sum(-1)
        extra = self.noise["extra_latents"].unbind(-2)
        heads = [(loc, scale)]
        if extra:
            # All heads inside the log are constants: the gradient flows through u alone.
            heads = [(loc.detach(), scale.detach())]
            heads += [tuple(x.detach() for x in self.head(i, latent)) for latent in extra]
        densities = [Normal(*head).log_prob(u).sum(-1) - jacobian for head in heads]
        log_prob = torch.stack(densities).logsumexp(0) - math.log(len(heads))
        return center + half_range * u.tanh(), log_prob

    def value(self, params, i, k, actions, *, following=False):
        """Value of agent i by critic k; ``actions`` is None for a state value."""
        partners = [j for j in range(self.num_agents) if j != i]
        own = [self.observation(i, following=following)]
        others = [self.observation(j, following=following) for j in partners]
        if actions is not None:
            own.append(actions[i])
            others += [actions[j] for j in partners]
        net = params["net"]
        if not partners:
            return network(net["trunk", "layers"], (k, i), torch.cat(own, -1)).squeeze(-1)
        hidden = [
            affine(torch.cat(own, -1), net["own_layer"], (k, i)),
            affine(torch.cat(others, -1), net["others_layer"], (k, i)),
        ]
        hidden = torch.cat(hidden, -1).relu()
        return network(net["trunk", "layers"], (k, i), hidden).squeeze(-1)

    def log_q(self, owner, target, condition, actions):
        """Log-density of the target's action given the condition's, by the owner's model."""
        ids = one_hot(torch.arange(self.num_agents), self.num_agents).to(actions[0])
        batch = actions[0].shape[:-1]
        row = (
            actions[condition],
            self.observation(condition),
            ids[condition].expand(*batch, -1),
            self.observation(target),
            ids[target].expand(*batch, -1),
        )
        xi = self.loss.predictor_network_params["net", "net", "layers"]
        out = network(xi, (owner,), torch.cat(row, -1))
        low, high = (bound[target] for bound in self.low_high)
        half_range, size = (high - low) / 2, low.shape[-1]
        loc = (low + high) / 2 + half_range * out[..., :size].tanh()
        predictor = self.loss.predictor_network
        if predictor.learns_scale:
            floor, ceiling = (math.exp(bound) for bound in predictor.log_scale_range)
            scale = half_range * floor * (ceiling / floor) ** out[..., size:].sigmoid()
        else:
            scale = half_range * predictor.constant_scale
        log_prob = Normal(loc, scale.expand_as(loc)).log_prob(actions[target])
        if not predictor.normalized:
            log_prob = log_prob + scale.log() + 0.5 * math.log(2 * math.pi)
        return log_prob.sum(-1)

    def both(self, i, j, actions):
        """Terms (b) and (a) of the pair, by the models that the loss was told to use."""
        owner = i if self.loss.term(MutualInformationTerm).reverse_model == "own" else j
        return self.log_q(i, j, i, actions), self.log_q(owner, i, j, actions)

    def beta(self, i):
        beta = self.loss.term(EntropyTerm).beta
        return float(beta[i] if beta.ndim else beta) * self.loss.reward_scale

    def actor(self, i):
        """Agent i's own loss (49); term (a) has no gradient for any policy."""
        theta = self.loss.qvalue_network_params
        values = [self.value(theta, i, k, self.action) for k in (0, 1)]
        q_value = values[0] if self.loss.policy_q == "first" else torch.minimum(*values)
        loss = -q_value + self.beta(i) * self.draws[i][1]
        for j in range(self.num_agents):
            if j != i:
                forward, reverse = self.both(i, j, self.action)
                loss = loss - self.beta(i) / self.num_agents * (forward + reverse.detach())
        return loss.mean()

    def state_value(self, i):
        with torch.no_grad():
            theta = self.loss.qvalue_network_params
            target = torch.minimum(*(self.value(theta, i, k, self.action) for k in (0, 1)))
            target = target - self.beta(i) * self.draws[i][1]
            for j in range(self.num_agents):
                if j != i:
                    weight = self.beta(i) / self.num_agents
                    target = target + weight * sum(self.both(i, j, self.action))
        own = self.value(self.loss.value_network_params, i, 0, None)
        return (0.5 * (own - target) ** 2).mean()

    def action_value(self, i):
        following = self.td["next"]
        reward = self.loss.reward_scale * following["agents", "reward"][..., i, 0]
        alive = 1.0 - following["terminated"].squeeze(-1).double()
        psi_bar = self.loss.target_value_network_params
        next_value = self.value(psi_bar, i, 0, None, following=True).detach()
        target = reward + float(self.loss.gamma) * alive * next_value
        stored = self.td["agents", "action"].unbind(-2)
        theta = self.loss.qvalue_network_params
        errors = [self.value(theta, i, k, stored) - target for k in (0, 1)]
        return sum((0.5 * error**2).mean() for error in errors)

    def predictor(self):
        fixed = [action.detach() for action in self.action]
        terms = [
            sum(self.both(i, j, fixed)).mean()
            for i in range(self.num_agents)
            for j in range(self.num_agents)
            if i != j
        ]
        return -torch.stack(terms).mean() if terms else torch.zeros((), dtype=torch.float64)

    def losses(self):
        agents = range(self.num_agents)
        return {
            "loss_actor": sum(self.actor(i) for i in agents),
            "loss_qvalue": sum(self.action_value(i) for i in agents),
            "loss_value": sum(self.state_value(i) for i in agents),
            "loss_predictor": self.predictor(),
        }


def grads(value, parameters):
    return torch.autograd.grad(
        value, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
    )


def assert_equal_grads(left, right, tolerance=1e-9):
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
