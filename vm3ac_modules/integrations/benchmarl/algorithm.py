"""An algorithm of this package inside BenchMARL's loop: its parts, group by group.

Shapes: ``*B`` batch, ``N`` agents of a group, ``A`` action. BenchMARL collects, stores, steps the
optimizers, moves the targets, logs and saves; here are policy, loss and temperature.

Source: Kim et al. 2023, arXiv:2303.00451; Bettini et al. 2024, "BenchMARL", arXiv:2312.01472.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from benchmarl.algorithms.common import Algorithm
from benchmarl.experiment.callback import Callback
from benchmarl.models.common import ModelConfig
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import nn

from vm3ac_modules.algorithms.base import Plan
from vm3ac_modules.algorithms.registry import find_preset
from vm3ac_modules.algorithms.transitions import TransitionAlgorithm
from vm3ac_modules.integrations.benchmarl.models import hidden_widths
from vm3ac_modules.keys import Keys
from vm3ac_modules.learning import Agent
from vm3ac_modules.learning.hooks import TemperatureLearner
from vm3ac_modules.modules.policy import Sizes
from vm3ac_modules.objectives.base import MultiAgentLoss

__all__ = ["CentralizedActorCritic", "MasacTwin", "Vm3ac", "Vm3acTight"]


class CentralizedActorCritic(Algorithm):
    """A preset over continuous actions as a BenchMARL algorithm.

    BenchMARL's experiment chooses what it chooses for every algorithm: discount, learning rate,
    target update, sharing of the policies' parameters, and by the models the widths of policies
    (with the predictor) and critics. Every group of agents has its own networks and its own z.

    Args:
        share_param_critic: one critic for all agents of a group.
        chosen: the preset's other options.
        experiment: BenchMARL's experiment.

    Raises:
        OptionsError: for a value that an option cannot have.
        ValueError: for a model that the networks here are not, a prioritized replay, or a task
            whose observations, actions or state do not fit.
    """

    preset: ClassVar[str]

    def __init__(self, *, share_param_critic: bool, experiment: Any, **chosen: Any) -> None:
        super().__init__(experiment)
        config, name = experiment.config, self.preset
        if config.off_policy_use_prioritized_replay_buffer:
            raise ValueError(
                f"{name} writes no priorities of transitions: set "
                "experiment.off_policy_use_prioritized_replay_buffer=False."
            )
        self.options = find_preset(name, "continuous").options.changed(
            {
                **chosen,
                "gamma": config.gamma,
                "share_params": config.share_policy_params,
                "critic_share_params": share_param_critic,
                "hidden": hidden_widths(self.model_config, "model", name),
                "critic_hidden": hidden_widths(self.critic_model_config, "critic_model", name),
            },
            name,
        )
        self._built: dict[str, Agent] = {}
        self._learned: dict[str, TensorDictBase] = {}
        experiment.callbacks = [*experiment.callbacks, _Hooks(self)]

    def built(self, group: str) -> Agent:
        """Agent of a group, made on the first call.

        Args:
            group: name of the group.
        """
        if group not in self._built:
            keys = self._keys(group)
            action_spec = self.action_spec[group, "action"]
            sizes = self._sizes(group, keys, action_spec.shape[-1])
            plan = Plan(sizes, action_spec, keys, device=torch.device(self.device))
            self._built[group] = self.options.build(plan)
        return self._built[group]

    def _keys(self, group: str) -> Keys:
        # A latent has no dimension of agents, so it lies at the root, under the group's name.
        state: dict[str, NestedKey] = {}
        if self.state_spec is not None:
            state["state"] = next(iter(self.state_spec.keys(True, True)))
        latent = f"{group}_latent"
        return Keys(
            group,
            latent=latent,
            latent_log_prob=f"{latent}_log_prob",
            terminated=(group, "terminated"),
            **state,
        )

    def _sizes(self, group: str, keys: Keys, action_dim: int) -> Sizes:
        seen = self.observation_spec[group]
        names = list(seen.keys(True, True))
        if names != ["observation"] or len(seen["observation"].shape) != 2:
            shapes = {str(name): tuple(seen[name].shape) for name in names}
            raise ValueError(
                f"{self.preset} needs one observation vector per agent, ({group!r}, 'observation') "
                f"of shape (N, O); the task has {shapes}."
            )
        num_agents, obs_dim = seen["observation"].shape
        state_dim = None
        if isinstance(self.options, TransitionAlgorithm) and self.options.critic_input == "state":
            spec = None if self.state_spec is None else self.state_spec[keys.state]
            if spec is None or len(spec.shape) != 1:
                found = "none" if spec is None else f"one of shape {tuple(spec.shape)}"
                raise ValueError(
                    f"{self.preset}: critic_input='state' needs a task with a state vector, this "
                    f"one has {found}: use algorithm.critic_input=observations."
                )
            state_dim = spec.shape[-1]
        return Sizes(num_agents, obs_dim, action_dim, state_dim=state_dim)

    # --- what BenchMARL asks for ------------------------------------------------------------

    def _get_loss(
        self, group: str, policy_for_loss: TensorDictModuleBase, continuous: bool
    ) -> tuple[MultiAgentLoss, bool]:
        # Its policy is the one that policy_for_loss is: both were built together.
        return self.built(group).loss, True

    def _get_parameters(self, group: str, loss: MultiAgentLoss) -> dict[str, list[nn.Parameter]]:
        return loss.parameter_groups()

    def _get_policy_for_loss(
        self, group: str, model_config: ModelConfig, continuous: bool
    ) -> TensorDictModuleBase:
        return self.built(group).policy.module

    def _get_policy_for_collection(
        self, policy_for_loss: TensorDictModuleBase, group: str, continuous: bool
    ) -> TensorDictModuleBase:
        return policy_for_loss

    def process_batch(self, group: str, batch: TensorDictBase) -> TensorDictBase:
        """Give every agent the reward and the end of the episode that its team has in common.

        Args:
            group: name of the group.
            batch: what was collected, ``[*B]``.

        Returns:
            The batch, with ``("next", group, "reward")`` and ``"terminated"``, ``[*B, N, 1]``.
        """
        agents = batch.get(group).shape
        for name in ("reward", "terminated"):
            if batch.get(("next", group, name), None) is None:
                team = batch.get(("next", name)).unsqueeze(-2)
                batch.set(("next", group, name), team.expand(*agents, 1))
        return batch

    def process_loss_vals(self, group: str, loss_vals: TensorDictBase) -> TensorDictBase:
        """The losses as they are.

        Args:
            group: name of the group.
            loss_vals: what the loss returned.
        """
        self._learned[group] = loss_vals
        return loss_vals

    def before_collect(self, frames: int) -> None:
        """What goes before a collection: a temperature that follows the frames.

        Args:
            frames: environment steps so far.
        """
        for built in self._built.values():
            for hook in built.hooks:
                hook.before_collect(frames)

    def after_update(self, group: str) -> dict[str, torch.Tensor]:
        """What follows a gradient step: the temperature's, where it is learned.

        Args:
            group: name of the group.

        Returns:
            What they report, by name.
        """
        told: dict[str, torch.Tensor] = {}
        if group not in self._learned:
            return told  # another algorithm's, in an ensemble
        for hook in self.built(group).hooks:
            hook.after_update(self._learned[group])
            told |= dict(zip(hook.logged, hook.scalars()[0], strict=True))
        return told

    def read_temperatures(self) -> None:
        """Take learned temperatures from the losses, whose state a checkpoint holds."""
        for built in self._built.values():
            for hook in built.hooks:
                if isinstance(hook, TemperatureLearner):
                    hook.load_state_dicts([{"log_beta": hook.term.beta.log()}])


class _Hooks(Callback):
    """Calls an algorithm's hooks where BenchMARL calls callbacks."""

    def __init__(self, algorithm: CentralizedActorCritic) -> None:
        super().__init__()
        self.algorithm = algorithm

    def on_batch_collected(self, batch: TensorDictBase) -> None:
        # Called when the batch is counted, before its updates.
        self.algorithm.before_collect(self.algorithm.experiment.total_frames)

    def on_train_step(self, batch: TensorDictBase, group: str) -> TensorDictBase | None:
        told = self.algorithm.after_update(group)
        return TensorDict(told, []) if told else None

    def on_load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.algorithm.read_temperatures()


class Vm3ac(CentralizedActorCritic):
    """VM3-AC in the paper's form."""

    preset = "vm3ac"


class Vm3acTight(CentralizedActorCritic):
    """VM3-AC with marginal entropy from below and a learned scale of the predictor."""

    preset = "vm3ac_tight"


class MasacTwin(CentralizedActorCritic):
    """VM3-AC's twin: the same code with the policies' entropy alone, MA-SAC."""

    preset = "ma_sac"
