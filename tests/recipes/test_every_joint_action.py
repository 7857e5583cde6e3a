"""The recipe that takes exploration out of FOP's matrix games."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))

from vm3ac_modules.envs.matrix import MATRIX_GAMES


@pytest.fixture(scope="module")
def recipe():
    import every_joint_action

    return every_joint_action


def test_every_joint_action_is_there_equally_often_with_what_it_pays(recipe):
    batch = recipe.every_joint_action(MATRIX_GAMES["climbing"])
    seen = batch["agents", "action"][:, 0]
    kinds, counts = seen.unique(dim=0, return_counts=True)
    assert (len(kinds), set(counts.tolist())) == (9, {recipe.COPIES})
    paid = MATRIX_GAMES["climbing"].rewards[0][seen[:, 0], seen[:, 1]]
    assert torch.equal(batch["agents", "reward"][:, 0, 0, 0], paid)
    assert batch["terminated"].flatten(1).tolist() == [[True, False]] * len(batch)


def test_a_short_run(recipe, tmp_path, capsys):
    threads = torch.get_num_threads()
    line = ["games=climbing", "seeds=2", "updates=2", f"out={tmp_path}"]
    rows = recipe.main(line)
    torch.set_num_threads(threads)
    assert [row["seed"] for row in rows] == [0, 1]
    payoffs = MATRIX_GAMES["climbing"].rewards.flatten().tolist()
    assert all(row[key] in payoffs for row in rows for key in ("critic_pays", "policies_pay"))
    assert rows[0]["largest_error"] > 1.0
    text = (tmp_path / "every_joint_action.md").read_text()
    assert text.splitlines()[0] == f"| game | {' | '.join(recipe.COLUMNS)} |"
    assert text in capsys.readouterr().out


def test_games_of_several_steps_are_refused(recipe, capsys):
    with pytest.raises(SystemExit):
        recipe.main(["games=two_step"])
    assert "two_step is no matrix game of one step; valid: coord" in capsys.readouterr().err
