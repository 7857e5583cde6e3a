"""Centralized critics as tensordict modules.

Shapes: ``*B`` batch, ``N`` agents, ``O`` observation, ``X`` state, ``A`` action, ``K`` critics.
VM3-AC's critics never see the latent; MAVEN's do. Source: Kim et al. 2023, arXiv:2303.00451, Eqs.
(45)-(48).
"""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from vm3ac_modules.keys import Keys
from vm3ac_modules.modules.network import NetworkModule
from vm3ac_modules.nn.attention import AttentionCriticNet
from vm3ac_modules.nn.critics import CentralizedCriticNet

__all__ = ["make_action_value", "make_state_value"]


def _input_keys(
    keys: Keys, critic_input: str, state_dim: int | None, latent_dim: int
) -> dict[str, Any]:
    if critic_input not in ("observations", "state"):
        raise ValueError(f"critic_input must be 'observations' or 'state', got {critic_input!r}.")
    latent = {"latent": keys.latent} if latent_dim else {}
    if critic_input == "observations":
        return {"observation": keys.observation, **latent}
    if state_dim is None:
        raise ValueError("critic_input='state' needs state_dim: the environment has no state.")
    return {"observation": keys.observation, "state": keys.state, **latent}


def _network(
    sizes: tuple[int, int, int],
    critic_input: str,
    state_dim: int | None,
    form: Literal["emphasized", "plain", "attention"] = "emphasized",
    **options: Any,
) -> nn.Module:
    if form == "attention":
        if critic_input == "state":
            raise ValueError(
                "form='attention' attends to the other agents' observations: it needs "
                "critic_input='observations'."
            )
        return AttentionCriticNet(*sizes, **options)
    options["state_dim"] = state_dim if critic_input == "state" else None
    return CentralizedCriticNet(*sizes, form=form, **options)


def make_action_value(
    obs_dim: int,
    action_dim: int,
    num_agents: int,
    *,
    critic_input: Literal["observations", "state"] = "observations",
    state_dim: int | None = None,
    latent_dim: int = 0,
    num_critics: int = 2,
    keys: Keys | None = None,
    **net_options: Any,
) -> NetworkModule:
    """Build the action values :math:`Q_{i,k}(x, a)` of all agents.

    It reads ``("agents", "joint_action")``, ``[*B, N, N, A]``: one joint action per agent, own
    first, which the losses write (with each agent's own gradient rule).

    Args:
        obs_dim: size O of an agent's observation.
        action_dim: size A of an agent's action.
        num_agents: number of agents N.
        critic_input: what the others' branch sees: all observations, or the state.
        state_dim: size X of the state; needed for ``critic_input="state"``.
        latent_dim: size Z of the latent that the critics see; 0 for none.
        num_critics: independent critics K per agent.
        keys: the tensordict vocabulary.
        net_options: passed to :class:`~vm3ac_modules.nn.critics.CentralizedCriticNet`, or with
            ``form="attention"`` to :class:`~vm3ac_modules.nn.AttentionCriticNet`.

    Returns:
        A module that writes ``("agents", "state_action_value")``, ``[*B, N, K]``.

    Raises:
        ValueError: for an unknown ``critic_input`` or a missing ``state_dim``.

    Example:
        >>> make_action_value(6, 2, 3).out_keys
        [('agents', 'state_action_value')]
    """
    keys = Keys() if keys is None else keys
    in_keys = _input_keys(keys, critic_input, state_dim, latent_dim)
    net_options |= {"latent_dim": latent_dim, "num_critics": num_critics}
    sizes = (obs_dim, action_dim, num_agents)
    net = _network(sizes, critic_input, state_dim, **net_options)
    in_keys["joint_action"] = keys.joint_action
    return NetworkModule(net, in_keys, [keys.state_action_value])


def make_state_value(
    obs_dim: int,
    num_agents: int,
    *,
    critic_input: Literal["observations", "state"] = "observations",
    state_dim: int | None = None,
    latent_dim: int = 0,
    keys: Keys | None = None,
    **net_options: Any,
) -> NetworkModule:
    """Build the state values :math:`V_i(x)` of all agents.

    Args:
        obs_dim: size O of an agent's observation.
        num_agents: number of agents N.
        critic_input: what the others' branch sees: all observations, or the state.
        state_dim: size X of the state; needed for ``critic_input="state"``.
        latent_dim: size Z of the latent that the critics see; 0 for none.
        keys: the tensordict vocabulary.
        net_options: passed to :class:`~vm3ac_modules.nn.critics.CentralizedCriticNet`, or with
            ``form="attention"`` to :class:`~vm3ac_modules.nn.AttentionCriticNet`.

    Returns:
        A module that writes ``("agents", "state_value")``, ``[*B, N, 1]``.

    Raises:
        ValueError: for an unknown ``critic_input`` or a missing ``state_dim``.

    Example:
        >>> make_state_value(6, 3).out_keys
        [('agents', 'state_value')]
    """
    keys = Keys() if keys is None else keys
    in_keys = _input_keys(keys, critic_input, state_dim, latent_dim)
    sizes = (obs_dim, 0, num_agents)
    net = _network(sizes, critic_input, state_dim, latent_dim=latent_dim, **net_options)
    return NetworkModule(net, in_keys, [keys.state_value])
