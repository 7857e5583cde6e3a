"""An exported agent that runs from its file: NumPy in, NumPy out, without torch for ONNX models.

    python -m vm3ac_modules.execution.runtime.agent agent_0.onnx

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

from vm3ac_modules.execution.clock import check_count, check_seed
from vm3ac_modules.execution.runtime._programs import open_program
from vm3ac_modules.execution.runtime.agent_file import AgentFileError, read_record

__all__ = ["DeployedAgent"]

Array = NDArray[Any]


class DeployedAgent:
    """Run one agent from its file; it reads its own observation and the time only.

    Its only state is the memory of a recurrent policy, cleared where an episode begins. The latent
    has no state: an agent that restarts in mid-episode agrees with the others at once.

    References:
        Kim et al. 2023, arXiv:2303.00451, Section 5 and Appendix H.

    Args:
        path: a file of ``vm3ac export``.
        seed: the team's seed, ``0 <= seed < 2^64``; all agents must be given the same.
        trust: run a program of ``torch.export`` (``.pt2``), which is code. ONNX needs no trust.

    Raises:
        AgentFileError: if the file is missing, damaged or of another format version, or code that
            nobody vouches for.
        ImportError: if what runs it is not installed; names the extra.
        ValueError: for a seed outside its range.

    Example:
        >>> agent = DeployedAgent("agents/synchronized/agent_0.onnx", seed=7)  # doctest: +SKIP
        >>> agent.act(observation, episode=0, step=12)  # doctest: +SKIP
    """

    def __init__(self, path: Path | str, *, seed: int = 0, trust: bool = False) -> None:
        self.path = Path(path)
        self.record = read_record(path)
        self._program = open_program(self.path, self.record, trust=trust)
        self._sizes = {entry["name"]: entry["shape"] for entry in self.record["inputs"]}
        self.seed = check_seed(seed)
        self._memory: dict[str, Array] = {}
        self._episode: Array | None = None

    @property
    def recurrent(self) -> bool:
        """Whether the agent has a memory."""
        return bool(self.record["recurrent"])

    def reset(self) -> None:
        """Clear the recurrent memory."""
        self._memory, self._episode = {}, None

    def act(self, observation: ArrayLike, **inputs: Any) -> Array:
        """The action of the greedy policy: at the mean, or the most probable one.

        Args:
            observation: the agent's own, ``[O]``, or ``[R, O]`` in R episodes at once.
            inputs: see :meth:`run`.

        Returns:
            float32 ``[A]`` or ``[R, A]`` in the environment's range; for discrete actions int64,
            a number or ``[R]``.

        Raises:
            ValueError: see :meth:`run`.
        """
        return self.run(observation, **inputs)["action"]

    def run(
        self,
        observation: ArrayLike,
        *,
        episode: ArrayLike | None = None,
        step: ArrayLike | None = None,
        action_mask: ArrayLike | None = None,
        latent: ArrayLike | None = None,
        first: ArrayLike | None = None,
    ) -> dict[str, Array]:
        """Run the program and return all of its outputs.

        Args:
            observation: the agent's own, ``[O]``, or ``[R, O]`` in R episodes at once.
            episode: number of the episode, one or ``[R]``.
            step: number of the step within it, one or ``[R]``.
            action_mask: legal actions, bool ``[A]`` or ``[R, A]``; all are by default.
            latent: ``[Z]`` or ``[R, Z]``, for agents that were exported with latent ``"given"``.
            first: where an episode begins and the memory is empty, one bool or ``[R]``; by default
                where step is 0. Where the episode is another than before, it always is.

        Returns:
            name -> array, as listed in the record's ``"outputs"``.

        Raises:
            ValueError: for an input of another size (says which was expected), a negative step, an
                input that the program reads and was not given, or does not read and was.
            TypeError: if an episode or a step is no integer.
        """
        seen = np.asarray(observation, dtype=np.float32)
        rows = np.atleast_2d(seen)
        given = {"episode": episode, "step": step, "action_mask": action_mask, "latent": latent}
        self._check_given(given)
        feed = {"observation": self._sized("observation", rows, len(rows), seen.shape)}
        feed |= self._feed(given, len(rows))
        if self.recurrent:
            feed |= self._remembered(feed, first, len(rows))
        out = self._program.run([feed[name] for name in self._sizes])
        named = dict(zip((e["name"] for e in self.record["outputs"]), out, strict=True))
        if self.recurrent:
            self._memory = {"hidden": named["next_hidden"], "last_action": named["action"]}
            self._episode = feed.get("episode")
        return {name: value[0] for name, value in named.items()} if seen.ndim == 1 else named

    def _feed(self, given: Mapping[str, Any], rows: int) -> dict[str, Array]:
        # The 64 bits of the seed, as the signed number that they are read as.
        feed: dict[str, Array] = {"seed": np.array(self.seed, dtype=np.uint64).view(np.int64)}
        for name, limit in (("episode", 2**63), ("step", 2**32)):
            if given[name] is not None:
                feed[name] = self._row_of(name, check_count(name, given[name], limit), rows)
        for name, kind in (("action_mask", bool), ("latent", np.float32)):
            if name in self._sizes:
                all_legal = np.ones(self._sizes[name][1], dtype=bool)
                value = np.asarray(all_legal if given[name] is None else given[name], dtype=kind)
                feed[name] = self._sized(name, np.atleast_2d(value), rows, value.shape)
        return feed

    def _check_given(self, given: Mapping[str, Any]) -> None:
        """Refuse missing inputs, and inputs that the program does not read."""
        for name, value in given.items():
            if value is None and name in self._sizes and name != "action_mask":
                said = self.record["latent"]["source"]
                raise ValueError(
                    f"{self.path.name} was exported with latent {said!r}: pass {name}=."
                )
            if value is not None and name in ("action_mask", "latent") and name not in self._sizes:
                raise ValueError(
                    f"{self.path.name} reads no {name}; its inputs are {', '.join(self._sizes)}."
                )

    def _remembered(
        self, feed: Mapping[str, Array], first: ArrayLike | None, count: int
    ) -> dict[str, Array]:
        fresh = {
            "hidden": np.zeros((count, self._sizes["hidden"][1]), np.float32),
            "last_action": np.full(count, -1, np.int64),
        }
        if not self._memory:
            return fresh
        if len(self._memory["last_action"]) != count:
            raise ValueError(
                f"{self.path.name} remembers {len(self._memory['last_action'])} rows and was given "
                f"{count}: call reset() before another number of episodes."
            )
        if first is not None:
            begins = self._row_of("first", np.asarray(first, dtype=bool), count)
        else:
            begins = feed["step"] == 0 if "step" in feed else np.zeros(count, bool)
        if self._episode is not None and "episode" in feed:
            # Its first step may have been missed.
            begins = begins | (feed["episode"] != self._episode)
        return {
            name: np.where(begins.reshape(-1, *[1] * (value.ndim - 1)), fresh[name], value)
            for name, value in self._memory.items()
        }

    def _row_of(self, name: str, value: Array, rows: int) -> Array:
        if value.shape not in ((), (1,), (rows,)):
            raise ValueError(
                f"{self.path.name}: {name} must be one number or [{rows}], got {list(value.shape)}."
            )
        return np.broadcast_to(value, (rows,))

    def _sized(self, name: str, rows: Array, count: int, given: Sequence[int]) -> Array:
        expected = self._sizes[name][1]
        if rows.ndim != 2 or rows.shape[-1] != expected or len(rows) not in (1, count):
            among = "" if count == 1 else f" among {count} rows"
            raise ValueError(
                f"{self.path.name}: {name} of agent {self.record['agent']} must be [{expected}] or "
                f"[rows, {expected}], got {list(given)}{among}."
            )
        return np.broadcast_to(rows, (count, expected))


def main() -> None:
    """Print the record of an agent's file."""
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        sys.stdout.write(f"{__doc__}\n")
        sys.exit(0 if len(sys.argv) == 2 else 2)
    try:
        sys.stdout.write(json.dumps(read_record(sys.argv[1]), indent=2) + "\n")
    except AgentFileError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
