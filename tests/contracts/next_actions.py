"""The model of other agents, one first layer at a time."""

from __future__ import annotations

import torch
from torch.nn.functional import linear, one_hot


def next_action_loop(net, observation, action, own):
    """``[*B, M, N, P, A]``, one whole first layer over (o_i, a_{-i}, own, onehot j) each."""
    num_agents = action.shape[-2]
    layers = (net.rest_layer, net.own_layer, net.partner_layer)
    rows = []
    for m in range(own.shape[-3]):
        for i in range(num_agents):
            partners = [j for j in range(num_agents) if j != i]
            weight = torch.cat([layer.weight[i] for layer in layers])
            for j in partners:
                x = torch.cat(
                    (
                        observation[..., i, :],
                        *(action[..., k, :] for k in partners),
                        own[..., m, i, :],
                        one_hot(torch.tensor(j), num_agents).to(own).expand(*own.shape[:-3], -1),
                    ),
                    dim=-1,
                )
                x = linear(x, weight.T, net.rest_layer.bias[i, 0]).relu()
                for index, layer in enumerate(net.trunk.layers):
                    x = linear(x.relu() if index else x, layer.weight[i].T, layer.bias[i, 0])
                rows.append(x.tanh())
    shape = (*own.shape[:-3], own.shape[-3], num_agents, num_agents - 1, own.shape[-1])
    return torch.stack(rows, dim=-2).reshape(shape) if rows else own.new_zeros(shape)
