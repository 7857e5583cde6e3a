"""A latent that is drawn at reset and lives for an episode, as MAVEN's."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Composite, TensorSpec, Unbounded
from torchrl.envs import Transform

__all__ = ["EpisodeLatent"]


class EpisodeLatent(Transform):
    """Write at every reset what a module draws, and keep it until the episode ends.

    The module is the learned prior of the latent, and the loss that trains it holds the same one
    (:class:`~vm3ac_modules.baselines.EpisodeLatentPolicy`). Its entries stand at the root and in
    ``"next"``, so a transition knows the latent of both its ends: the same one.

    Args:
        module: reads a reset's entries and writes ``out_keys``, of ``out_sizes`` features each.

    Example:
        >>> from vm3ac_modules.baselines import EpisodeLatentPolicy
        >>> from vm3ac_modules.envs import EpisodeLatent, make_env
        >>> env = make_env("predator_prey_2", num_envs=3, seed=0)
        >>> env = env.append_transform(EpisodeLatent(EpisodeLatentPolicy(2 * 53, 4)))
        >>> steps = env.rollout(5)
        >>> bool((steps["latent"] == steps["next", "latent"]).all())
        True
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        # In a tuple, since the module is the loss's: it is not to be saved or moved with this.
        self._module = (module,)
        self._current: dict[Any, Tensor] = {}

    @property
    def module(self) -> Any:
        """What draws the latent."""
        return self._module[0]

    def draw_with(self, module: Any) -> None:
        """Draw with another module from now on.

        Args:
            module: one of the same sizes.
        """
        self._module = (module,)

    def _reset(
        self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        [module] = self._module
        drawn = module(tensordict_reset.select(*module.in_keys))
        started = tensordict.get("_reset", None)
        for key in module.out_keys:
            value = drawn.get(key)
            if started is not None and key in self._current:
                rows = started.reshape(*value.shape[:-1], 1)
                value = torch.where(rows, value, self._current[key])
            self._current[key] = value
        return self._write(tensordict_reset)

    def go_on(self, tensordict: TensorDictBase) -> None:
        """Keep the latents of episodes that go on after a checkpoint.

        Args:
            tensordict: the environment's last output.
        """
        [module] = self._module
        self._current = {key: tensordict.get(key) for key in module.out_keys}

    def _write(self, tensordict: TensorDictBase) -> TensorDictBase:
        for key, value in self._current.items():
            tensordict.set(key, value)
        return tensordict

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        if not self._current:
            # A step before any reset (spec checks): what the caller carries along.
            for key in self._module[0].out_keys:
                next_tensordict.set(key, tensordict.get(key))
        return self._write(next_tensordict)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Refuse use outside an environment: only resets draw."""
        raise RuntimeError("EpisodeLatent works inside an environment, not in a replay buffer")

    def transform_observation_spec(self, observation_spec: Composite) -> TensorSpec:
        """Add the entries to the observation spec."""
        observation_spec = observation_spec.clone()
        [module] = self._module
        for key, size in zip(module.out_keys, module.out_sizes, strict=True):
            shape = (*observation_spec.shape, size)
            observation_spec[key] = Unbounded(shape=shape, device=observation_spec.device)
        return observation_spec
