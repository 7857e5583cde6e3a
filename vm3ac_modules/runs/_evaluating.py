"""Evaluations of a run: rows of eval.csv while it goes on, summary and pictures at its end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vm3ac_modules.envs.battles.factory import lost_episodes
from vm3ac_modules.envs.carried import carried, load_carried
from vm3ac_modules.evaluation.names import decimals, plus_minus
from vm3ac_modules.evaluation.protocol import EvaluationResult, evaluate, usual_actions
from vm3ac_modules.files import write_json
from vm3ac_modules.learning.seeding import evaluation_seed
from vm3ac_modules.runs._advice import advise, beside_random
from vm3ac_modules.runs._base import RunBase
from vm3ac_modules.runs._pictures import draw_all, observer
from vm3ac_modules.runs._report import evaluation_row, information, joined_summary, summary


class Evaluator:
    """Evaluate a run's policy on fixed starts, in a separate environment."""

    def __init__(self, run: RunBase) -> None:
        self.run = run
        training, task = run.training, run.task
        # No more processes than in training.
        rows = task.rows(training.seeds * training.eval_episodes, training.num_envs)
        # Battles of evaluations are seeded when they begin.
        seed = evaluation_seed(training.seed) if task.plays == "steps" else training.seed
        env = task.make(
            rows, device=training.device, seed=seed, teams=training.seeds, training=False
        )
        self.env = run.agent.wrap(env)
        # The newest evaluation and its frame; this process's, so none after a resume.
        self.last: tuple[int, list[EvaluationResult]] = (-1, [])

    def play(self, **options: Any) -> list[EvaluationResult]:
        """Evaluate with the protocol's fixed starts; one result per seed."""
        policy = options.pop("policy", self.run.agent.policy.greedy())
        if self.run.frames:
            # Before the first frame there is nothing yet: a normalizer then learns by itself.
            load_carried(self.env, carried(self.run.env, self.run.of_rows))
        result = evaluate(
            policy,
            self.env,
            actions=usual_actions(policy, self.run.task.plays),
            max_steps=self.run.max_steps,
            seed=evaluation_seed(self.run.training.seed),
            plays=self.run.task.plays,
            episodes=self.run.training.seeds * self.run.training.eval_episodes,
            keys=self.run.agent.keys,
            **options,
        )
        return result.split(self.run.training.seeds)

    def evaluate(self) -> str:
        """Evaluate, write a row of every eval.csv, and say the result in a few words."""
        return self._write(self.play)

    def _write(self, play: Callable[[], list[EvaluationResult]]) -> str:
        battles = self.run.task.plays == "episodes"
        lost = lost_episodes(self.env) if battles else 0
        results = play()
        self.last = (self.run.frames, results)
        found = information(self.run)
        if battles:
            # They count as battles that were not won.
            extra = {"lost_episodes": lost_episodes(self.env) - lost}
            found = [{**extra, **one} for one in found]
        rows = []
        for files, result, more in zip(self.run.files, results, found, strict=True):
            counts = {"frame": self.run.frames, "update": self.run.updates}
            rows.append({**counts, **evaluation_row(result, self.run.task), **more})
            with self.run.writing("eval.csv"):
                files.write_evaluation(rows[-1])
        if len(rows) > 1:
            means = [row["return_mean"] for row in rows]
            digits = decimals(*means)
            return "returns " + " ".join(plus_minus(mean, math.nan, digits) for mean in means)
        [row] = rows
        return said_of(row)

    def finish(self) -> dict[str, Any]:
        """Evaluate a last time, draw, write every summary.json; return the run's."""
        if self.run.updates == 0:
            self.run.note(self._why_no_update())
        for text in advise(self.run):
            self.run.note(text)
        watched = observer(self.run.task, self.env) if self.run.training.draw else None
        if self.run.metrics.count:
            self.run.write_metrics()
        results: list[EvaluationResult] = []

        def play() -> list[EvaluationResult]:
            results.extend(self.play(observer=watched))
            return results

        if self.run.files[0].last_evaluation == self.run.frames:
            frame, known = self.last
            # Played once more only to be watched, or after a resume.
            if frame == self.run.frames and watched is None:
                results.extend(known)
            else:
                play()
        else:
            self._write(play)
        randoms = self.play(policy=None)
        for text in beside_random(self.run, results, randoms):
            self.run.note(text)
        summaries = []
        for files, result, random in zip(self.run.files, results, randoms, strict=True):
            found = summary(self.run, files.settings, result, random)
            with self.run.writing("the summary"):
                write_json(files.run_dir / "summary.json", found)
            summaries.append(found)
            if self.run.training.draw:
                with self.run.writing("a picture"):
                    draw_all(self.run, self.env, files, result, random.mean)
        if len(summaries) == 1:
            return summaries[0]
        together = joined_summary(summaries, self.run.training.seed)
        with self.run.writing("the summary"):
            write_json(Path(self.run.training.run_dir) / "summary.json", together)
        return together

    def _why_no_update(self) -> str:
        """Why a run ended before its first update."""
        start = self.run.source.sizes.start
        if self.run.task.plays == "episodes":
            least = max(start, self.run.training.batch_size)
            return (
                f"no update was made: {self.run.episodes} episodes were played, and the first "
                f"update needs {least} (start_episodes, batch_size); give more frames"
            )
        return "no update was made: all frames were random ones (init_random_frames)"


NATS = ("mutual_information", "mi_upper_bound")


def said_of(row: Mapping[str, Any]) -> str:
    """A row of eval.csv in a few words: win rate, return, information in nats."""
    won = f"win rate {row['win_rate']:.2f}, " if "win_rate" in row else ""
    if "greedy_win_rate" in row:
        won = f"win rate {row['win_rate']:.2f} (greedy {row['greedy_win_rate']:.2f}), "
    if "best_response_value" in row:
        won = f"against the best response {row['best_response_value']:.3f}, "
    nats = next((row[name] for name in NATS if math.isfinite(row.get(name, math.nan))), None)
    end = "" if nats is None else f", MI {nats + 0.0:.2f} nats"
    return f"{won}return {plus_minus(row['return_mean'], row['return_ci95'])}{end}"
