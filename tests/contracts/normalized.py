"""The meeting game behind normalizers and other transforms that learn, each of one kind."""

from __future__ import annotations

import torch
from contracts.user_env import Meeting
from torchrl.envs import (
    CatFrames,
    ClipTransform,
    Compose,
    ObservationNorm,
    RewardClipping,
    RewardScaling,
    SerialEnv,
    Transform,
    TransformedEnv,
    VecNormV2,
)
from torchrl.envs.transforms import VecNorm

SEEN, PAID = ("agents", "observation"), ("agents", "reward")


class Running(Transform):
    """A largest value of one's own; the statistics are a buffer, a plain tensor or a number."""

    def __init__(self, kept: str = "buffer") -> None:
        super().__init__(in_keys=[SEEN], out_keys=[SEEN])
        self.kept, self.frozen = kept, False
        if kept == "buffer":
            self.register_buffer("largest", torch.full((), 1.0))
        else:
            self.largest = torch.full((), 1.0) if kept == "tensor" else 1.0

    def _apply_transform(self, obs):
        if not self.frozen:
            found = torch.maximum(torch.as_tensor(self.largest), obs.abs().max() + 1.0)
            found = found + 0.25
            self.largest = found if self.kept != "number" else float(found)
        return obs / self.largest

    def _reset(self, tensordict, tensordict_reset):
        return self._call(tensordict_reset)


class Freezable(Running):
    """The same, and it can be frozen."""

    def freeze(self):
        self.frozen = True


class Once(Transform):
    """What is remembered of an episode, and begins anew with it."""

    def __init__(self) -> None:
        super().__init__(in_keys=[SEEN], out_keys=[SEEN])
        self.steps = 0

    def _call(self, next_tensordict):
        self.steps += 1
        return next_tensordict

    def _reset(self, tensordict, tensordict_reset):
        self.steps = 0
        return tensordict_reset


PARTS = {
    "v2": lambda: VecNormV2([SEEN, PAID], reduce_batch_dims=True),
    "v2_seen": lambda: VecNormV2([SEEN], reduce_batch_dims=True),
    "v1": lambda: VecNorm([SEEN, PAID], new_api=False),
    "own": Freezable,
    "scaled": lambda: Compose(
        RewardScaling(loc=0.0, scale=0.01, in_keys=[PAID]),
        ObservationNorm(3.0, 2.0, in_keys=[SEEN], standard_normal=True),
        ObservationNorm(0.5, 2.0, in_keys=[SEEN]),
    ),
    "clipped": lambda: RewardClipping(-0.01, 0.01, in_keys=[PAID]),
    "frames": lambda: CatFrames(N=2, dim=-1, in_keys=[SEEN]),
    "once": Once,
    "per_row": lambda: VecNormV2([SEEN]),
    "stateless": lambda: VecNormV2([SEEN], stateful=False),
    "tensor": lambda: Freezable("tensor"),
    "number": lambda: Freezable("number"),
    "no_freeze": Running,
    "behind": lambda: Compose(
        VecNormV2([SEEN], reduce_batch_dims=True), ClipTransform([SEEN], low=-1.0, high=1.0)
    ),
}


class Far(Meeting):
    """Observations far from zero, which networks see badly without a normalizer."""

    def _step_data(self):
        data = super()._step_data()
        data["agents"]["observation"] = 10.0 + 3.0 * data["agents"]["observation"]
        return data


def make_env(num_envs, device, seed, part="v2"):
    if part == "workers":
        one = lambda: TransformedEnv(Far(num_envs, device, seed), Running())  # noqa: E731
        return SerialEnv(1, [one])
    env = Far(num_envs, device, seed)
    return TransformedEnv(env, PARTS[part]()) if part in PARTS else env
