"""Stock TorchRL losses around a policy with a latent, and a batch that any of them takes."""

from __future__ import annotations

import torch
from contracts.loss_contract import with_updater
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.data import Bounded, OneHot
from torchrl.modules import MaskedCategorical, OneHotCategorical, ProbabilisticActor
from torchrl.objectives import (
    A2CLoss,
    ClipPPOLoss,
    DiscreteSACLoss,
    ReinforceLoss,
    SACLoss,
    multiagent,
)

import vm3ac_modules as vm
from vm3ac_modules.keys import Keys

SPEC = Bounded(-1.0, 1.0, (2, 1))
KEYS = Keys()
ROWS = 64


def gaussian_policy(latent_dim=3, mode="sample", held=False, **head):
    torch.manual_seed(0)
    actor = vm.make_actor(4, latent_dim, SPEC, hidden=(8,), latent_gain=3.0)
    return vm.make_policy(vm.LatentSampler(vm.GaussianPrior(3), mode=mode, held=held), actor)


class LogitsNet(nn.Linear):
    def forward(self, observation, latent):
        latent = latent.unsqueeze(-2).expand(*observation.shape[:-1], latent.shape[-1])
        return super().forward(torch.cat((observation, 3.0 * latent), -1))


def discrete_policy(masked=False):
    torch.manual_seed(0)
    logits = KEYS.logits
    net = TensorDictModule(LogitsNet(4 + 3, 5), [KEYS.observation, KEYS.latent], [logits])
    parameters = {"logits": logits, **({"mask": KEYS.action_mask} if masked else {})}
    actor = ProbabilisticActor(
        net,
        in_keys=parameters,
        out_keys=[KEYS.action],
        distribution_class=MaskedCategorical if masked else OneHotCategorical,
        return_log_prob=True,
        log_prob_key=KEYS.action_log_prob,
    )
    return vm.make_policy(vm.LatentSampler(vm.CategoricalPrior(3)), actor)


def collected(policy, rows=ROWS, seed=1, latent=None):
    """What a collector would have stored of one step, ready for any loss.

    Args:
        policy: the policy.
        rows: B.
        seed: of observations, actions and rewards.
        latent: that of the episodes, which the environment wrote ``[B, K]``.
    """
    torch.manual_seed(seed)
    agents = {
        "observation": torch.randn(rows, 2, 4),
        "action_mask": torch.ones(rows, 2, 5, dtype=torch.bool),
    }
    td = TensorDict({"agents": agents}, [rows])
    if latent is not None:
        td[KEYS.latent] = latent
    with torch.no_grad():
        td = policy(td)
    td["next"] = TensorDict({"agents": TensorDict(agents, [rows])}, [rows])
    td["next", "agents"]["reward"] = torch.randn(rows, 2, 1)
    for name in ("done", "terminated"):
        td["next", "agents", name] = torch.zeros(rows, 2, 1, dtype=torch.bool)
        td["next", name] = torch.zeros(rows, 1, dtype=torch.bool)
    td["advantage"] = torch.randn(rows, 2, 1)
    td["value_target"] = torch.randn(rows, 2, 1)
    return td


def scoring(kind, policy, **options):
    """A host that scores stored actions."""
    loss = kind(policy, vm.make_state_value(4, 2, hidden=(8,)), **options)
    loss.set_keys(action=KEYS.action, sample_log_prob=KEYS.action_log_prob, value=KEYS.state_value)
    return loss


class JointValue(nn.Module):
    def __init__(self, actions, outputs=1):
        super().__init__()
        self.net = nn.Linear(2 * 4 + 2 * actions, 2 * outputs)
        self.outputs = outputs

    def forward(self, observation, action=None):
        parts = [observation] if action is None else [observation, action]
        joint = torch.cat([part.flatten(-2) for part in parts], -1)
        return self.net(joint).unflatten(-1, (2, self.outputs))


def sac(policy, kind=SACLoss):
    value = TensorDictModule(
        JointValue(1), [KEYS.observation, KEYS.action], [KEYS.state_action_value]
    )
    loss = kind(policy, value, action_spec=SPEC)
    loss.set_keys(
        action=KEYS.action,
        log_prob=KEYS.action_log_prob,
        reward=KEYS.reward,
        state_action_value=KEYS.state_action_value,
        done=("agents", "done"),
        terminated=("agents", "terminated"),
    )
    return with_updater(loss)


def discrete_sac(policy, value=None):
    if value is None:
        value = TensorDictModule(JointValue(0, 5), [KEYS.observation], ["action_value"])
    spec = OneHot(5, shape=(2, 5))
    loss = DiscreteSACLoss(policy, value, action_space=spec, num_actions=5)
    loss.set_keys(
        action=KEYS.action,
        reward=KEYS.reward,
        done=("agents", "done"),
        terminated=("agents", "terminated"),
    )
    return with_updater(loss)


HOSTS = {
    "ClipPPO": lambda policy: scoring(ClipPPOLoss, policy.replaying()),
    "A2C": lambda policy: scoring(A2CLoss, policy.replaying()),
    "REINFORCE": lambda policy: scoring(ReinforceLoss, policy.replaying()),
    "SAC": lambda policy: sac(policy.fresh()),
}
# Not in older versions of TorchRL.
if hasattr(multiagent, "MAPPOLoss"):
    HOSTS["MAPPO"] = lambda policy: scoring(
        multiagent.MAPPOLoss, policy.replaying(), normalize_advantage=False
    )
