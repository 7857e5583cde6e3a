"""FOP's critics, small."""

from __future__ import annotations

from contracts.episode_contract import ACTIONS, OBS, STATE

from vm3ac_modules.modules.factorized_critic import FactorizedCritic
from vm3ac_modules.nn import FOPMixer


def make_critic(num_agents=3):
    mixer = FOPMixer(STATE, num_agents, ACTIONS, embed_dim=8)
    return FactorizedCritic(OBS, ACTIONS, num_agents, mixer, hidden=(8,))
