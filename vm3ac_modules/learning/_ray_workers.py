"""Workers on the machines of a Ray cluster: TorchRL's collector as Ray actors.

TorchRL's own ``RayCollector`` ends with the first of its actors, and sends weights through a
process group of fixed members. Here an actor that is gone is replaced alone, and weights travel
through Ray's object store, once to each machine.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from tensordict import TensorDictBase
from torchrl.envs import EnvBase

from vm3ac_modules.extras import require_extra
from vm3ac_modules.learning._collecting import OWN_TRANSFORMS
from vm3ac_modules.learning._spread import (
    Spread,
    WorkerCollector,
    Workers,
    WorkersError,
    joined,
)
from vm3ac_modules.learning.agent import Agent

TRIES = 3
"""How often an actor is replaced in one round before the run ends."""
PATIENCE = 30.0
"""Seconds after which an actor that does not answer makes us look at the cluster."""


class RayWorkers(Workers):
    """One actor per worker, with one CPU each.

    The cluster is the one that ``RAY_ADDRESS`` names, or that the program has joined already; else
    Ray is started on this machine, and ended with the workers.
    """

    def __init__(
        self, spread: Spread, agent: Agent, env: EnvBase, restarted: Callable[[str], None]
    ) -> None:
        require_extra("ray", "ray", "collector=ray")
        super().__init__(spread, agent, env, restarted)
        self.actors: list[Any] = []
        self.owns_ray = False

    def start(self, frames: int, random_frames: int) -> None:
        """Join the cluster, or start one here, and start all actors."""
        import ray

        workers = self.spread.workers
        if not ray.is_initialized():
            options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
            if "RAY_ADDRESS" not in os.environ:
                cores = max(os.cpu_count() or 1, workers)
                options |= {"num_cpus": cores, "include_dashboard": False}
            ray.init(**options)
            self.owns_ray = True
        self._check_cpus()
        self.take_weights()
        policy = ray.put(self.sent)
        self.actors = [
            self._actor(worker, policy, frames, random_frames) for worker in range(workers)
        ]
        for worker, actor in enumerate(self.actors):
            if self._answers(worker, actor.__ray_ready__.remote()) is None:
                raise WorkersError(
                    f"worker {worker} ended while it started (out of memory?): take fewer "
                    "collector_workers or num_envs."
                )

    def _check_cpus(self) -> None:
        """Refuse to wait for machines that are not there, or not any more."""
        import ray

        cpus, workers = int(ray.cluster_resources().get("CPU", 0)), self.spread.workers
        if cpus < workers:
            raise WorkersError(
                f"the Ray cluster has {cpus} CPUs for {workers} workers, which need one each: give "
                f"collector_workers={cpus} or fewer (with resume=true if the run has begun), or "
                "add machines."
            )

    def _actor(self, worker: int, policy: Any, frames: int, random_frames: int) -> Any:
        import ray

        [make] = self.makers(frames, [worker])
        actor = ray.remote(num_cpus=1)(WorkerCollector)
        # Ray would build it again from the same arguments: with the draws that were used already.
        chosen = {"max_restarts": 0, "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1"}}}
        return actor.options(**chosen).remote(
            make,
            policy,
            frames_per_batch=self.spread.frames // self.spread.workers,
            total_frames=-1,
            init_random_frames=random_frames // self.spread.workers,
            device="cpu",
            **OWN_TRANSFORMS,
            worker_idx=worker,
        )

    def play(self, frames: int, random_frames: int) -> TensorDictBase:
        """A round; an actor that is gone is replaced, and plays its share anew."""
        import ray

        weights = ray.put(self.take_weights())
        asked = [
            (actor.update_policy_weights_.remote(weights), actor.next.remote())
            for actor in self.actors
        ]
        return joined(
            [self._share(worker, refs, frames, random_frames) for worker, refs in enumerate(asked)]
        )

    def _share(
        self, worker: int, refs: tuple[Any, ...], frames: int, random_frames: int
    ) -> TensorDictBase:
        """What one worker played, or the one that takes its place."""
        import ray

        for _ in range(TRIES):
            answers = self._answers(worker, *refs)
            if answers is not None:
                return answers[-1]
            ray.kill(self.actors[worker])
            # It starts with the weights that were sent last.
            self.actors[worker] = self._actor(worker, ray.put(self.sent), frames, random_frames)
            self.restarted(
                f"worker {worker} was lost after frame {frames}: another took its place and began "
                "new episodes"
            )
            refs = (self.actors[worker].next.remote(),)
        raise WorkersError(
            f"worker {worker} was lost {TRIES} times after frame {frames} (out of memory?): take "
            "fewer num_envs per worker, and go on with resume=true."
        )

    def _answers(self, worker: int, *refs: Any) -> list[Any] | None:
        """What an actor answers; None if it is gone."""
        import ray
        from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

        waited = list(refs)
        while waited:
            _, waited = ray.wait(waited, num_returns=len(waited), timeout=PATIENCE)
            if waited:
                self._check_cpus()
        try:
            return list(ray.get(list(refs)))
        except RayTaskError as error:
            raise WorkersError(
                f"worker {worker} failed ({error.cause!r}): correct it, and go on with resume=true."
            ) from error
        except (RayActorError, OutOfMemoryError) as error:
            if "creation task" not in str(error):
                return None
            said = str(error).strip().splitlines()[-1]
            raise WorkersError(f"worker {worker} could not start: {said}") from error

    def close(self) -> None:
        """End all actors, and Ray if it was started here."""
        import ray

        for actor in self.actors:
            ray.kill(actor)
        self.actors = []
        if self.owns_ray:
            ray.shutdown()
            self.owns_ray = False
