"""The meeting game in other types and shapes than networks take."""

from __future__ import annotations

import torch
from contracts.user_env import Meeting
from torchrl.data import Bounded, Composite, Unbounded

TYPES = {
    "float64": torch.float64,
    "float16": torch.float16,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "bool": torch.bool,
}


class Typed(Meeting):
    """Entries of another type or shape; ``says`` is whether the specs tell the truth."""

    def __init__(self, num_envs, device, seed, *, entry, dtype, says=True, image=False):
        self.entry, self.kind, self.image = entry, TYPES[dtype], image
        super().__init__(num_envs, device, seed)
        shape = (num_envs, 2, *((1, 3) if image else (1,)))
        if says:
            spec = Composite(
                agents=Composite(
                    {"observation": Unbounded(shape, dtype=self._type("observation"))},
                    shape=(num_envs,),
                ),
                shape=(num_envs,),
            )
            if entry == "state":
                spec["state"] = Unbounded((num_envs, 2), dtype=self.kind)
            self.observation_spec = spec
            reward = {"reward": Unbounded((num_envs, 2, 1), dtype=self._type("reward"))}
            self.reward_spec = Composite(
                agents=Composite(reward, shape=(num_envs,)), shape=(num_envs,)
            )

        if entry == "action":
            low, high = (torch.full((num_envs, 2, 1), x, dtype=self.kind) for x in (-0.5, 0.5))
            action = Composite(action=Bounded(low, high, dtype=self.kind), shape=(num_envs,))
            self.action_spec = Composite(agents=action, shape=(num_envs,))

    def _type(self, entry):
        return self.kind if entry == self.entry else torch.float32

    def _step_data(self):
        data = super()._step_data()
        seen = data["agents"]["observation"].to(self._type("observation"))
        data["agents"]["observation"] = (
            seen.unsqueeze(-1).expand(-1, 2, 1, 3) if self.image else seen
        )
        if self.entry == "state":
            data["state"] = self.place.flatten(1).to(self.kind)
        return data

    def _step(self, tensordict):
        assert tensordict["agents", "action"].dtype is self._type("action")
        out = super()._step(tensordict.replace(tensordict.apply(lambda x: x.float())))
        return out.set(("agents", "reward"), out["agents", "reward"].to(self._type("reward")))


def make_env(num_envs, device, seed, **options):
    return Typed(num_envs, device, seed, **options)
