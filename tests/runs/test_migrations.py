"""Checkpoints of earlier commits resume, or say who reads them.

``checkpoints/v2_first`` was written by commit d95f07b, ``v2_last`` by 26bb341: VM3-AC on two
agents' predator-prey, 24 frames in rows of two, networks of four units. ``names_v2.json`` holds the
names of the losses' entries that changed meanwhile: before, and in version 3.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

pytest.importorskip("vmas")
pytest.importorskip("tensorboard")

from vm3ac_modules.runs import CheckpointError, load_agent, load_checkpoint, save_checkpoint, train
from vm3ac_modules.runs._migrations import MIGRATIONS, READERS, VERSION, migrated
from vm3ac_modules.runs._state import NOT_IN_HASH, completed
from vm3ac_modules.runs.record import read_config

HERE = Path(__file__).with_name("checkpoints")
OLD = ["v2_first", "v2_last"]


@pytest.fixture(params=OLD)
def old(request, tmp_path):
    place = tmp_path / "run"
    shutil.copytree(HERE / request.param, place)
    return place


def config(place, **more):
    return {**read_config(place / "config.yaml"), "run_dir": str(place), "resume": True, **more}


def test_an_old_run_goes_on(old):
    before = load_checkpoint(old)
    assert before.frame == 24
    found = train(config(old, frames=28))
    assert (found["frames"], found["notes"]) == (28, [])
    after = load_checkpoint(old)
    assert after.frame == 28
    assert json.loads((old / "checkpoint/step_28/meta.json").read_text())["version"] == VERSION
    # Items that the old version collected are still in the replay.
    assert torch.equal(
        after.replay["agents", "observation"][:8], before.replay["agents", "observation"][-8:]
    )


def test_what_was_learned_is_put_back(old):
    raw = torch.load(old / "checkpoint/step_24/state.pt", weights_only=True)["loss"]
    agent = load_agent(old).agent
    own = agent.loss.state_dict()
    names = [name for name in own if name in raw]
    assert len(names) > 20
    assert all(torch.equal(own[name], raw[name]) for name in names)
    beta = raw["terms.0.beta"] if "terms.0.beta" in raw else raw["regularizer.beta"]
    assert torch.equal(own["terms.0.beta"], beta)


def test_options_that_came_later_have_their_default_and_may_be_told(old):
    given = config(old, frames=28)
    given["algorithm"]["critic_hidden"] = [5]
    with pytest.raises(
        CheckpointError, match=r"critic_hidden: checkpoint has null, this run has \[5"
    ):
        train(given)
    # The advice: the checkpoint's settings.
    given["algorithm"]["critic_hidden"] = None
    assert train(given)["frames"] == 28


def test_options_that_left_the_hash_do_not_stand_in_the_way(old):
    place = old / "checkpoint/step_24/meta.json"
    meta = json.loads(place.read_text())
    meta["config"] |= dict.fromkeys(("threads", "frames", "eval_episodes"), 1)
    meta["config"] |= {"draw": True, "info_per_agent": True}
    place.write_text(json.dumps(meta))
    assert {"threads", "frames", "draw", "info_per_agent"} < NOT_IN_HASH
    assert train(config(old, frames=28))["frames"] == 28


def test_an_option_that_is_gone_is_named_with_advice_that_can_be_followed(old):
    place = old / "checkpoint/step_24/meta.json"
    meta = json.loads(place.read_text())
    meta["config"]["algorithm"]["magic"] = 3
    meta["written_by"] = {"vm3ac-modules": "0.0.7"}
    place.write_text(json.dumps(meta))
    with pytest.raises(
        CheckpointError, match=r"'magic' of vm3ac.*Go on with vm3ac-modules 0\.0\.7"
    ):
        train(config(old, frames=28))


@pytest.mark.parametrize("name", json.loads((HERE / "names_v2.json").read_text()))
def test_entries_of_every_loss_have_their_new_names(name):
    before, after = json.loads((HERE / "names_v2.json").read_text())[name]
    algorithm = name.partition("/")[2]
    state = {"loss": dict.fromkeys(before, 0), "agent": {"algorithm": algorithm}}
    assert set(migrated(2, state)["loss"]) == set(after)


def test_every_format_is_brought_on_or_has_a_reader():
    assert sorted({*MIGRATIONS, *READERS}) == list(range(1, VERSION))
    state = {"loss": {"terms.0.beta": 1}, "carried": {"x": 1}, "other": 2}
    assert migrated(VERSION, state) is state
    assert migrated(2, state) == state


@pytest.mark.parametrize(
    ("version", "says"),
    [(1, "read by the commits before 8050f69"), (99, "a later version of vm3ac-modules: update")],
)
def test_a_format_that_is_not_read_says_who_reads_it(old, version, says):
    place = old / "checkpoint/step_24/meta.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "version": version}))
    with pytest.raises(
        CheckpointError, match=rf"format version {version}, .* reads 2 to 3.*{says}"
    ):
        load_checkpoint(old)


def test_a_checkpoint_says_who_wrote_it(tmp_path):
    step, _ = save_checkpoint(tmp_path, 3, {}, config={})
    written = json.loads((step / "meta.json").read_text())["written_by"]
    assert written["torch"] == torch.__version__.partition("+")[0] or written["torch"]
    assert "git_commit" in written


def test_a_configuration_is_completed_by_what_it_says_itself(old):
    saved = json.loads((old / "checkpoint/step_24/meta.json").read_text())["config"]
    found = completed(saved)
    assert found["algorithm"]["estimator"] == "barber_agakov"
    assert completed({**saved, "gamma": 0.5})["algorithm"]["gamma"] == 0.5
