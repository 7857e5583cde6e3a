"""The predictor of categorical policies."""

from __future__ import annotations

import pytest
import torch
from contracts.categorical import ACTIONS, batch_of, make_predictor
from torch import nn

import vm3ac_modules as vm
from vm3ac_modules.keys import MissingKeysError


@pytest.mark.parametrize("form", ["index", "index of one", "one-hot", "one-hot bool"])
@pytest.mark.parametrize("situation", ["state", "observations"])
def test_predictor_scores_the_actions_of_a_tensordict(situation, form):
    predictor = make_predictor(3, situation, masked=True).double()
    td = batch_of(5, num_agents=3)
    td["agents", "action_mask"][:] = True
    action = torch.randint(ACTIONS, (5, 3))
    form = {
        "index": action,
        "index of one": action.unsqueeze(-1),
        "one-hot": nn.functional.one_hot(action, ACTIONS),
        "one-hot bool": nn.functional.one_hot(action, ACTIONS).bool(),
    }[form]
    pairs = predictor(td.set(("agents", "action"), form))["agents", "pair_log_prob"]
    key = "state" if situation == "state" else ("agents", "observation")
    table = predictor.table(td[key], td["agents", "action_mask"])
    torch.testing.assert_close(table, predictor.table(td[key]))
    for n in range(5):
        for i in range(3):
            for j in range(3):
                at = (n, i, action[n, i], j, action[n, j])
                torch.testing.assert_close(pairs[n, i, j], table[at] * (i != j))
    with pytest.raises(MissingKeysError, match="CategoricalPredictor"):
        predictor(td.exclude(key))


def test_unusable_situations():
    with pytest.raises(ValueError, match="situation must be 'state' or 'observations', got 'all'"):
        vm.CategoricalPredictor(4, 2, 3, situation="all")
    of_agents = vm.CategoricalPredictor(4, 2, 3, situation="observations")
    with pytest.raises(ValueError, match=r"observations must end in \[2, 4\], got .*\[5, 3, 4\]"):
        of_agents.table(torch.zeros(5, 3, 4))
    of_state = vm.CategoricalPredictor(4, 2, 3)
    with pytest.raises(ValueError, match=r"the state must end in \[4\], got shape \[5, 3\]"):
        of_state.table(torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"mask must be \[5, 2, 3\], got shape \[5, 2, 4\]"):
        of_state.table(torch.zeros(5, 4), torch.ones(5, 2, 4, dtype=torch.bool))
