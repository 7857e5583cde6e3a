"""Collecting with several processes, and replays: what is refused before a run begins."""

from __future__ import annotations

import pytest

from vm3ac_modules.options import OptionsError
from vm3ac_modules.runs import Run, Settings
from vm3ac_modules.runs._replay_size import check_replay, free_bytes, item_bytes
from vm3ac_modules.runs._spreading import crowded, spread_of

pytest.importorskip("vmas")
TWO = {"collector": "multi_sync", "collector_workers": 2}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"collector_workers": 2},
            "collector_workers is for worker processes: give collector=multi_sync, multi_async or "
            "ray.",
        ),
        (
            {"weights_every_frames": 64},
            "weights_every_frames is for worker processes: give collector=multi_sync, multi_async "
            "or ray.",
        ),
        (
            {**TWO, "collector_workers": 3},
            "num_envs=4 cannot be shared equally by collector_workers=3: take num_envs=6, or fewer "
            "workers.",
        ),
        (
            {**TWO, "seeds": 3},
            "seeds=3 are trained side by side in one process: with collector=multi_sync start a "
            "run per seed (-m seed=range(0,3)).",
        ),
        (
            {**TWO, "task": "multiwalker_2", "task.env.num_workers": 2},
            "task.env.num_workers=2 and collector=multi_sync both start processes: give one of "
            "them.",
        ),
        (
            {**TWO, "task": "guard"},
            "guard has an adversary that learns from all rows, and every worker would have its "
            "own: use collector=sync.",
        ),
        (
            {"batch_size": 49},
            "batch_size=49 is more than buffer_size=48 holds: take a smaller batch or a larger "
            "replay.",
        ),
        (
            {"collector": "threads"},
            "collector must be sync, multi_sync, multi_async, ray, got 'threads'.",
        ),
    ],
)
def test_options_that_do_not_go_together(compose, options, said):
    with pytest.raises(OptionsError) as refused:
        Settings.of(compose(**options))
    assert str(refused.value) == said


def test_battles_are_played_by_one_process(battle):
    said = "battles are played in whole episodes, by one process: collector is for tasks that are "
    with pytest.raises(OptionsError, match=said):
        Settings.of(battle(collector="multi_sync"))


def test_ray_that_is_missing_is_named_with_its_extra(compose, monkeypatch):
    monkeypatch.setattr("vm3ac_modules.extras.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"collector=ray needs .*vm3ac-modules\[ray\]"):
        Settings.of(compose(collector="ray"))


def test_one_more_worker_than_cores_is_said(compose):
    settings = Settings.of(compose(**{**TWO, "collector_workers": 4}))
    spread = spread_of(settings.training, settings.task)
    assert crowded(spread, 4) == ""
    assert crowded(spread, 3) == (
        "4 workers share 3 cores and take turns: collector_workers=3 is as fast"
    )


@pytest.mark.parametrize(
    ("every", "steps"), [("null", 1), (1, 1), (4, 1), (5, 2), (8, 2), (400, 100)]
)
def test_weights_are_sent_after_whole_steps_of_all_rows(compose, every, steps):
    settings = Settings.of(compose(**TWO, weights_every_frames=every))
    spread = spread_of(settings.training, settings.task)
    assert (spread.steps, spread.frames, spread.share) == (steps, 4 * steps, 2)


def test_random_frames_are_whole_rounds(compose):
    wanted = {"weights_every_frames": 12, "init_random_frames": 16}
    run = Run(Settings.of(compose(**TWO, **wanted)))
    assert run.random_frames == 24
    # The first update is due with the step after the last random one.
    assert run.source.start == 24 // 4 + 1


def test_a_training_in_one_process_has_no_spread(compose):
    settings = Settings.of(compose())
    assert spread_of(settings.training, settings.task) is None


# --- replays ----------------------------------------------------------------------------------


def test_a_replay_larger_than_what_is_free_is_refused_with_the_numbers(tmp_path):
    check_replay(1000, 1000, "cpu", free=lambda *_: 1_000_000)
    with pytest.raises(OptionsError) as refused:
        check_replay(3_000_000, 2_000, "cpu", free=lambda *_: 4_000_000_000)
    assert str(refused.value) == (
        "the replay (buffer_size) of 3,000,000 items of 2,000 bytes is 6.0 GB, and 4.0 GB are free "
        "in the memory of cpu: take buffer_size=1000000 or less, or replay_storage=memmap, which "
        "keeps it in run_dir."
    )
    with pytest.raises(OptionsError, match=r"are free on the disk of .*: take buffer_size="):
        check_replay(3_000_000, 2_000, "cpu", tmp_path, free=lambda *_: 4_000_000_000)
    check_replay(3_000_000, 2_000, "cpu", free=lambda *_: None)


def test_what_is_free_is_read_from_this_machine(tmp_path):
    assert free_bytes("cpu") > 10**8
    assert free_bytes("cpu", tmp_path / "not" / "yet") > 10**6


def test_bytes_of_a_transition_are_those_that_are_stored(compose):
    with Run(Settings.of(compose("algorithm=ma_ac", draw=False))) as run:
        turns = run.collect()
        run.store(next(turns))
        source = run.source
        stored = source.rows(source.written - 1, source.written).bytes()
        turns.close()
        assert item_bytes(run.agent, run.env) == stored
        assert item_bytes(run.agent, run.env, slots=3) == 3 * (stored - 8) + 8


def test_a_run_asks_before_its_first_step(compose, monkeypatch):
    monkeypatch.setattr("vm3ac_modules.runs._replay_size.free_bytes", lambda *_: 10)
    with pytest.raises(OptionsError, match="of 48 items of"):
        Run(Settings.of(compose()))
