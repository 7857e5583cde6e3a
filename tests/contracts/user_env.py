"""An environment of a user's own: two agents on a line want to meet."""

from __future__ import annotations

import torch
from tensordict import TensorDict
from torchrl.data import Binary, Bounded, Composite, Unbounded
from torchrl.envs import EnvBase


class Meeting(EnvBase):
    def __init__(self, num_envs, device, seed):
        super().__init__(device=device, batch_size=[num_envs])
        shape = (num_envs, 2, 1)
        agents = {"observation": Unbounded(shape, device=device)}
        self.observation_spec = Composite(
            agents=Composite(agents, shape=shape[:1]), shape=shape[:1]
        )
        action = Composite(action=Bounded(-0.5, 0.5, shape, device=device), shape=shape[:1])
        self.action_spec = Composite(agents=action, shape=shape[:1])
        reward = Composite(reward=Unbounded(shape, device=device), shape=shape[:1])
        self.reward_spec = Composite(agents=reward, shape=shape[:1])
        flag = {"shape": (num_envs, 1), "dtype": torch.bool, "device": device}
        self.done_spec = Composite(done=Binary(**flag), terminated=Binary(**flag), shape=shape[:1])
        self.place = torch.zeros(shape, device=device)
        self.generator = torch.Generator(device=device)
        self.set_seed(seed)

    def _step_data(self):
        never = torch.zeros(*self.batch_size, 1, dtype=torch.bool, device=self.device)
        agents = {"observation": self.place.clone()}
        return {"agents": agents, "done": never, "terminated": never.clone()}

    def _reset(self, tensordict=None, **kwargs):
        fresh = torch.rand(self.place.shape, generator=self.generator, device=self.device)
        rows = None if tensordict is None else tensordict.get("_reset", None)
        self.place = fresh if rows is None else torch.where(rows.unsqueeze(-1), fresh, self.place)
        return TensorDict(self._step_data(), self.batch_size)

    def _step(self, tensordict):
        self.place = self.place + tensordict["agents", "action"]
        data = self._step_data()
        apart = (self.place[:, :1] - self.place[:, 1:]).abs()
        data["agents"]["reward"] = -apart.expand_as(self.place).clone()
        return TensorDict(data, self.batch_size)

    def _set_seed(self, seed):
        self.generator.manual_seed(0 if seed is None else seed)


def make_env(num_envs, device, seed):
    return Meeting(num_envs, device, seed)
