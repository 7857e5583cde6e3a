"""Save and restore the whole state of a run.

Every seed's checkpoint has the form of a run alone, in a directory of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from vm3ac_modules.algorithms.registry import build_from
from vm3ac_modules.envs.carried import carried
from vm3ac_modules.envs.resume import find_resumable
from vm3ac_modules.envs.rng import env_rng_state
from vm3ac_modules.learning.seeding import fork_rng, rng_state, seed_everything
from vm3ac_modules.learning.seeds import (
    join_optimizers,
    join_states,
    split_optimizer,
    split_state,
)
from vm3ac_modules.learning.sources import Replayed
from vm3ac_modules.runs._base import RunBase
from vm3ac_modules.runs._plain import check_plain
from vm3ac_modules.runs.checkpoint import (
    Checkpoint,
    CheckpointError,
    ReplayItems,
    common_frame,
    load_checkpoint,
    save_checkpoint,
)
from vm3ac_modules.runs.settings import Settings

LOG = logging.getLogger("vm3ac_modules")

# Options that say where, how long and how a run is watched, not what it learns from.
NOT_IN_HASH = frozenset(
    (
        *("run_dir", "resume", "overwrite", "frames", "threads", "device", "draw", "seeds"),
        *("logger", "progress"),
        *("eval_every_frames", "eval_episodes", "checkpoint_every_frames", "log_every_updates"),
        *("information_rows", "information_latents", "replay_checkpoint_bytes"),
        *("info_per_agent", "trust", "cudagraph", "cudagraph_steps", "compile"),
        *("replay_storage", "collector", "collector_workers", "weights_every_frames"),
    )
)


def hashed_config(settings: Settings) -> dict[str, Any]:
    """The part of the configuration that a resumed run must share."""
    return {k: v for k, v in settings.to_dict().items() if k not in NOT_IN_HASH}


def completed(config: dict[str, Any]) -> dict[str, Any]:
    """The same of a configuration that an earlier version saved: with options that came later."""
    return hashed_config(Settings.of(config))


def check(run: RunBase) -> None:
    """Check before the run begins that a checkpoint can hold its state."""
    for state in _states(run):
        check_plain(state, "state")


def save(run: RunBase) -> None:
    """Write a checkpoint of every seed."""
    for seed, (own, state) in enumerate(zip(run.settings_of_seeds, _states(run), strict=True)):
        run.last_checkpoint, run.replay_files[seed] = save_checkpoint(
            own.training.run_dir,
            run.frames,
            state,
            config=hashed_config(own),
            replay=_replay(run, seed),
            before=run.replay_files[seed],
        )


def _states(run: RunBase) -> Iterator[dict[str, Any]]:
    """Yield the state of each seed's checkpoint, without the replay."""
    agent, seeds = run.agent, run.agent.seeds
    losses = split_state(dict(agent.loss.state_dict()), _template(run), seeds)
    optimizers = {n: split_optimizer(o.state_dict(), seeds) for n, o in _optimizers(run)}
    # Workers keep their environments to themselves.
    env = _split_rows({} if run.spread else find_resumable(run.env).save(run.env), seeds)
    transforms = {f"held_{i}": part.state() for i, part in _with_state(run)}
    held_back = _split_rows(transforms, seeds)
    for seed in range(seeds):
        yield {
            "loss": losses[seed],
            "optimizers": {name: parts[seed] for name, parts in optimizers.items()},
            "target_calls": getattr(agent.target, "counter", 0),
            "hooks": [hook.state_dict(seed) for hook in agent.hooks],
            "seeds_together": seeds,
            "counters": run.counters(),
            "source": run.source.state_dict(),
            "held_back": held_back[seed],
            "log": run.metrics.state_dict(seed),
            "log_rows": run.files[seed].rows if run.files else (0, 0),
            "rng": rng_state(),
            "env": env[seed],
            "carried": carried(run.env, run.of_rows),
            "won": _won(run),
            "agent": {"algorithm": agent.algorithm, "options": agent.options.to_dict()},
        }


def _won(run: RunBase) -> dict[str, Any] | None:
    """The battles that a finished run's notes speak of."""
    if run.won is None:
        return None
    return {"entries": run.won.to_dict(), "batch_size": list(run.won.batch_size)}


def _replay(run: RunBase, seed: int) -> ReplayItems | None:
    """One seed's replay; None if it is empty or larger than the limit."""
    source, seeds = run.source, run.agent.seeds
    if not isinstance(source, Replayed) or len(source) == 0:
        return None
    held = len(source) // seeds
    size = source.rows(source.written - 1, source.written, seed).bytes() * held
    if size > run.training.replay_checkpoint_bytes:
        return None
    return ReplayItems(lambda a, b: source.rows(a, b, seed), source.written, held)


def restore(run: RunBase) -> dict[str, Any]:
    """Put all back but the global random streams, which collecting restores; the first state."""
    # Killed between two seeds' checkpoints, a run goes on from the last one that all have.
    frame = common_frame([own.training.run_dir for own in run.settings_of_seeds])
    saved = [
        load_checkpoint(
            own.training.run_dir, config=hashed_config(own), frame=frame, complete=completed
        )
        for own in run.settings_of_seeds
    ]
    try:
        return _put_back(run, saved)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(
            f"{run.training.run_dir} holds no state that this run goes on from "
            f"({type(error).__name__}: {error})."
        ) from error


def _put_back(run: RunBase, saved: list[Checkpoint]) -> dict[str, Any]:
    states, agent = [one.state for one in saved], run.agent
    losses = [state["loss"] for state in states]
    agent.loss.load_state_dict(join_states(losses, agent.loss.state_dict()))
    for name, optimizer in _optimizers(run):
        optimizer.load_state_dict(join_optimizers([s["optimizers"][name] for s in states]))
    if agent.target is not None:
        agent.target.counter = states[0]["target_calls"]
    for index, hook in enumerate(agent.hooks):
        hook.load_state_dicts([state["hooks"][index] for state in states])
    first = states[0]
    if len(first["log_rows"]) != 2 or not isinstance(first["rng"], dict):
        raise TypeError("log_rows are two numbers, and rng is a dictionary")
    run.load_counters(first["counters"])
    run.metrics.load_state_dicts([state["log"] for state in states])
    # Checkpoints of version 0.2 and before have none.
    won = first.get("won")
    run.won = None if won is None else TensorDict(won["entries"], won["batch_size"])
    run.replay_files = [one.files for one in saved]
    run.last_checkpoint = None
    _restore_env(run, states)
    _restore_replay(run, saved)
    return first


def _restore_env(run: RunBase, states: list[dict[str, Any]]) -> None:
    state = _join_rows([state["env"] for state in states])
    anew = run.spread is not None or not state
    if states[0]["seeds_together"] == run.agent.seeds:
        run.streams = states[0]["rng"]
    else:
        # Seeds that were trained together left the same streams, of all their rows, to each.
        seed = run.training.seed
        seed_everything(seed + run.frames)
        run.env.set_seed(seed + run.frames)
        state["streams"] = env_rng_state(run.env)
        run.note(f"seed {seed} went on alone, with random streams of its own")
    if anew:
        run.env.set_seed(run.training.seed + run.frames)
        run.note("environments of worker processes do not resume: all began new episodes")
    elif not find_resumable(run.env).load(run.env, state) and run.task.plays == "steps":
        run.note("the simulator cannot go on in mid-episode: new episodes were started on resume")


def _restore_replay(run: RunBase, saved: list[Any]) -> None:
    source, first = run.source, saved[0].state
    replays = [one.replay for one in saved]
    if isinstance(source, Replayed) and any(replay is None for replay in replays):
        if first["source"]["added"]:
            run.note("the checkpoint held no replay: it was filled anew before updates went on")
        return
    source.load_state_dict(first["source"])
    if isinstance(source, Replayed):
        source.fill(replays, saved[0].files.written)
        if run.task.plays == "steps":
            source.start = run.first_update
    if run.spread is not None or not saved[0].state["env"]:
        # What waited for the next step of an episode that does not go on.
        return
    held_back = _join_rows([one.state["held_back"] for one in saved])
    for index, part in _with_state(run):
        part.load_state(held_back[f"held_{index}"])


def _with_state(run: RunBase) -> list[tuple[int, Any]]:
    """Transforms of the replay that hold something back, and their places."""
    return [(i, part) for i, part in enumerate(run.replay_transforms) if hasattr(part, "state")]


def _optimizers(run: RunBase) -> list[tuple[str, torch.optim.Optimizer]]:
    """The agent's optimizers and those of its hooks, by name."""
    hooks = [hook.optimizer for hook in run.agent.hooks if hook.optimizer is not None]
    named = {f"hook_{index}": optimizer for index, optimizer in enumerate(hooks)}
    return [*run.agent.optimizers.items(), *named.items()]


def _template(run: RunBase) -> dict[str, Any]:
    """State of the same loss built for one seed, which tells what is stacked."""
    if run.agent.seeds == 1:
        return dict(run.agent.loss.state_dict())
    if run.template is None:
        with fork_rng(0):
            one = build_from(run.settings.algorithm, run.env, name=run.settings.name)
        run.template = dict(one.loss.state_dict())
    return run.template


def _split_rows(state: dict[str, Any], seeds: int) -> list[dict[str, Any]]:
    """Every seed's rows of an environment's state; streams and all else are every seed's."""
    if seeds == 1:
        return [state]
    found: list[dict[str, Any]] = [{} for _ in range(seeds)]
    for part, values in state.items():
        for seed, own in enumerate(found):
            own[part] = {
                key: _rows_of(part, value, seed, seeds) if _by_row(part, key) else value
                for key, value in values.items()
            }
    return found


def _join_rows(states: list[dict[str, Any]]) -> dict[str, Any]:
    """Undo :func:`_split_rows`."""
    first = states[0]
    if len(states) == 1:
        return first
    return {
        part: {
            key: _together(part, [s[part][key] for s in states]) if _by_row(part, key) else value
            for key, value in values.items()
        }
        for part, values in first.items()
    }


def _rows_of(part: str, value: Tensor, seed: int, seeds: int) -> Tensor:
    # The replay's order is row by row, that of environments seed by seed.
    own = value[seed::seeds] if part.startswith("held_") else value.chunk(seeds)[seed]
    return own.clone()


def _together(part: str, values: list[Tensor]) -> Tensor:
    return torch.stack(values, 1).flatten(0, 1) if part.startswith("held_") else torch.cat(values)


def _by_row(part: str, key: str) -> bool:
    """Whether an entry has a row per row of the environment."""
    if part == "counters":
        return key.split(".")[-1] in ("resets", "episodes")
    return part in ("shown", "simulator") or part.startswith("held_")
