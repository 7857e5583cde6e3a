"""An exported agent at work: NumPy in, NumPy out, without torch if the file is an ONNX model.

    python -m vm3ac_modules.execution.agent agent_0.onnx

prints what the file says of itself.

Source: Kim et al. 2023, arXiv:2303.00451, Section 5 (decentralized execution) and Appendix H.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vm3ac_modules.execution.agent_file import AgentFileError, read_record
from vm3ac_modules.execution.clock import check_count, check_seed
from vm3ac_modules.execution.programs import open_program

__all__ = ["DeployedAgent"]

Array = NDArray[Any]


class DeployedAgent:
    """One agent, run from its file; it sees its own observation and the time, and nothing else.

    Its only state is the memory of a recurrent policy, emptied at the first step of an episode. The
    latent has none: an agent that is started again in mid-episode agrees with the others at once.

    References:
        Kim et al. 2023, arXiv:2303.00451, Section 5 and Appendix H.

    Args:
        path: a file of ``recipes/export_agents.py``.
        seed: the team's seed, ``0 <= seed < 2^64``; all agents must be given the same.

    Raises:
        AgentFileError: if the file is missing, damaged or of another format version.
        ImportError: if what runs it is not installed; names the extra.
        ValueError: for a seed outside its range.

    Example:
        >>> agent = DeployedAgent("runs/demo/agents/agent_0.onnx", seed=7)  # doctest: +SKIP
        >>> agent.act(observation, episode=0, step=12)  # doctest: +SKIP
    """

    def __init__(self, path: Path | str, *, seed: int = 0) -> None:
        self.path = Path(path)
        self.record = read_record(path)
        self._program = open_program(self.path, self.record)
        self._sizes = {entry["name"]: entry["shape"] for entry in self.record["inputs"]}
        self.seed = check_seed(seed)
        self._memory: dict[str, Array] = {}

    @property
    def recurrent(self) -> bool:
        """Whether it remembers."""
        return bool(self.record["recurrent"])

    def reset(self) -> None:
        """Forget everything, as a process that was started again has."""
        self._memory = {}

    def act(
        self,
        observation: ArrayLike,
        *,
        episode: ArrayLike = 0,
        step: ArrayLike = 0,
        action_mask: ArrayLike | None = None,
        latent: ArrayLike | None = None,
        first: ArrayLike | None = None,
    ) -> Array:
        """The action of the greedy policy: at the mean, or the most probable one.

        Args:
            observation: the agent's own, ``[O]``, or ``[R, O]`` in R episodes at once.
            episode: number of the episode, one or ``[R]``.
            step: number of the step within it, one or ``[R]``.
            action_mask: legal actions, bool ``[A]`` or ``[R, A]``; discrete actions only, all legal
                by default.
            latent: ``[Z]`` or ``[R, Z]``, for agents that were exported with latent ``"given"``.
            first: where an episode begins and the memory is empty; where step is 0 by default.

        Returns:
            float32 ``[A]`` or ``[R, A]`` in the environment's range; for discrete actions int64,
            a number or ``[R]``.

        Raises:
            ValueError: for an input of another size (says which was expected), a negative step, or
                an input that is missing.
        """
        return self.run(
            observation,
            episode=episode,
            step=step,
            action_mask=action_mask,
            latent=latent,
            first=first,
        )["action"]

    def run(self, observation: ArrayLike, **inputs: Any) -> dict[str, Array]:
        """As :meth:`act`, but everything that the program returns.

        Args:
            observation: the agent's own.
            inputs: the other arguments of :meth:`act`.

        Returns:
            name -> array, as listed in the record's ``"outputs"``.
        """
        seen = np.asarray(observation, dtype=np.float32)
        single = seen.ndim == 1
        rows = np.atleast_2d(seen)
        self._check("observation", rows, seen.shape)
        feed = self._feed(rows, {name: x for name, x in inputs.items() if x is not None})
        out = self._program.run([feed[name] for name in self._sizes])
        named = dict(zip((e["name"] for e in self.record["outputs"]), out, strict=True))
        if self.recurrent:
            self._memory = {"hidden": named["next_hidden"], "last_action": named["action"]}
        return {name: value[0] for name, value in named.items()} if single else named

    def _feed(self, rows: Array, given: dict[str, Any]) -> dict[str, Array]:
        count = len(rows)
        episode = self._per_row("episode", given, count, 2**63)
        step = self._per_row("step", given, count, 2**32)
        # The 64 bits of the seed, as the signed number that they are read as.
        seed = np.array(self.seed, dtype=np.uint64).view(np.int64)
        feed = {"observation": rows, "seed": seed, "episode": episode, "step": step}
        if "action_mask" in self._sizes:
            actions = self._sizes["action_mask"][1]
            mask = np.asarray(given.get("action_mask", np.ones(actions, bool)), dtype=bool)
            self._check("action_mask", np.atleast_2d(mask), mask.shape)
            feed["action_mask"] = np.broadcast_to(mask, (count, actions))
        if "latent" in self._sizes:
            if "latent" not in given:
                raise ValueError(
                    f"{self.path.name} was exported with latent 'given': pass latent=."
                )
            latent = np.asarray(given["latent"], dtype=np.float32)
            self._check("latent", np.atleast_2d(latent), latent.shape)
            feed["latent"] = np.broadcast_to(latent, (count, latent.shape[-1]))
        return feed | (self._remembered(step, given, count) if self.recurrent else {})

    def _remembered(self, step: Array, given: Mapping[str, Any], count: int) -> dict[str, Array]:
        first = np.broadcast_to(np.asarray(given.get("first", step == 0), dtype=bool), (count,))
        size = self._sizes["hidden"][1]
        fresh = {
            "hidden": np.zeros((count, size), np.float32),
            "last_action": np.full(count, -1, np.int64),
        }
        if not self._memory:
            return fresh
        if len(self._memory["last_action"]) != count:
            raise ValueError(
                f"{self.path.name} remembers {len(self._memory['last_action'])} rows and was given "
                f"{count}: call reset() before another number of episodes."
            )
        return {
            name: np.where(first.reshape(-1, *[1] * (value.ndim - 1)), fresh[name], value)
            for name, value in self._memory.items()
        }

    def _per_row(self, name: str, given: Mapping[str, Any], rows: int, limit: int) -> Array:
        value = check_count(name, given.get(name, 0), limit)
        if value.shape not in ((), (1,), (rows,)):
            raise ValueError(
                f"{self.path.name}: {name} must be one number or [{rows}], got {list(value.shape)}."
            )
        return np.broadcast_to(value, (rows,))

    def _check(self, name: str, rows: Array, given: Sequence[int]) -> None:
        expected = self._sizes[name][1]
        if rows.ndim != 2 or rows.shape[-1] != expected:
            raise ValueError(
                f"{self.path.name}: {name} of agent {self.record['agent']} must be [{expected}] or "
                f"[rows, {expected}], got {list(given)}."
            )


def main() -> None:
    """Print the record of an agent's file."""
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)  # noqa: T201
        sys.exit(0 if len(sys.argv) == 2 else 2)
    try:
        print(json.dumps(read_record(sys.argv[1]), indent=2))  # noqa: T201
    except AgentFileError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(2)


if __name__ == "__main__":
    main()
