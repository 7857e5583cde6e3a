"""How much is trained for a figure or table: a number of seeds, and options of the training."""

from __future__ import annotations

from typing import NamedTuple


class Budget(NamedTuple):
    """How much is trained."""

    seeds: int
    options: dict[str, str]
    """Of ``vm3ac train`` or ``vm3ac battle``, as their command lines take them."""


def _budget(seeds: int, *lines: str) -> Budget:
    return Budget(seeds, dict(text.split("=", 1) for text in " ".join(lines).split()))


class Program(NamedTuple):
    """A command that trains."""

    command: str
    task_key: str
    budgets: dict[str, Budget]
    together: bool
    """Whether it trains several seeds in one process."""
    measures: tuple[str, ...]
    """Entries of its summary that results.csv has besides."""
    inside: bool = False
    """Whether it trains in its own process: games that take less time than to start one."""


CONTINUOUS = Program(
    "train",
    "task",
    {
        # Does every part work? Too short to learn anything; the episodes are cut as well.
        "smoke": _budget(
            2,
            "frames=256 num_envs=4 updates_per_step=2 batch_size=16 init_random_frames=32",
            "buffer_size=1000 hidden=[16,16] task.max_steps=10 information_rows=4 draw=false",
            "eval_episodes=2 eval_every_frames=64 checkpoint_every_frames=128 threads=1",
            "information_latents=8",
        ),
        # About 8,000 updates, a minute to four of one core per seed; above the paper's learning
        # rate, as in loop=demo, for the sake of the time.
        "cpu": _budget(
            3,
            "frames=256000 num_envs=64 updates_per_step=2 batch_size=128 lr=1e-3",
            "eval_episodes=20 eval_every_frames=32000 checkpoint_every_frames=128000",
            "replay_checkpoint_bytes=0",
        ),
        # The paper's seeds and batch. It does not print its frames: those of loop=paper. About
        # 250,000 updates, a quarter of its one update per frame (updates_per_step=64 does all).
        "gpu": _budget(
            7,
            "frames=1000000 num_envs=64 updates_per_step=16 batch_size=128",
            "eval_episodes=20 eval_every_frames=50000 checkpoint_every_frames=250000",
        ),
        # What vm3ac train does unasked: to draw the runs of a sweep.
        "none": _budget(3),
    },
    together=True,
    measures=(),
)
GAMES = Program(
    "train",
    "task",
    {
        "smoke": _budget(
            2,
            "frames=256 num_envs=8 updates_per_step=1 batch_size=16 init_random_frames=32",
            "buffer_size=256 hidden=[8,8] information_rows=0 draw=false eval_episodes=8",
            "eval_every_frames=128 checkpoint_every_frames=128 threads=1",
        ),
        # About 1,000 updates of small networks, 20 to 30 seconds of one core per seed. What the
        # replay holds is recent: the guard that older transitions met has moved on.
        "cpu": _budget(
            7,
            "frames=64000 num_envs=64 updates_per_step=1 batch_size=128 buffer_size=1280",
            "hidden=[64,64] lr=1e-3 eval_episodes=1024 eval_every_frames=8000",
            "information_rows=0 draw=false checkpoint_every_frames=64000",
        ),
        "none": _budget(7),
    },
    together=True,
    measures=("best_response_value",),
)
BATTLES = Program(
    "battle",
    "map",
    {
        "smoke": _budget(
            2,
            "frames=100 num_envs=4 batch_size=4 start_episodes=4 buffer_size=16 hidden_size=8",
            "eval_episodes=4 eval_every_frames=50 checkpoint_every_frames=50 log_every_updates=1",
            "draw=false env.max_steps=10",
        ),
        # Two to eight minutes of one core per run on 3s_vs_3z; 8m_vs_9m is several times dearer.
        "cpu": _budget(
            3,
            "frames=150000 eval_every_frames=15000 checkpoint_every_frames=150000",
            "replay_checkpoint_bytes=0 draw=false",
        ),
        # The baselines' codes stop at 2.05 million steps.
        "gpu": _budget(
            5,
            "frames=2050000 eval_every_frames=50000",
            "checkpoint_every_frames=250000 draw=false",
        ),
        "none": _budget(3),
    },
    together=False,
    measures=(
        *("win_rate", "greedy_win_rate", "policy_entropy", "logit_gap"),
        *("random_win_rate", "backend", "reward"),
    ),
)
SMALL_GAMES = Program(
    "battle",
    "map",
    {
        "smoke": _budget(
            2,
            "backend=games frames=64 num_envs=4 batch_size=4 start_episodes=4 hidden_size=8",
            "buffer_size=16 eval_episodes=4 eval_every_frames=32 checkpoint_every_frames=64",
            "updates_per_episode=0.125 log_every_updates=1 draw=false threads=1",
        ),
        # What is tuned for these games: 200 to 800 updates, 2 to 13 seconds of one core per run.
        "cpu": _budget(
            5,
            "backend=games draw=false threads=1 checkpoint_every_frames=100000",
            "replay_checkpoint_bytes=0",
        ),
        "none": _budget(5, "backend=games"),
    },
    together=False,
    measures=("win_rate", "best_response_value"),
    inside=True,
)
