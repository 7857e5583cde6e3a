"""What a common z is worth: games whose value no independent policies can reach.

    vm3ac reproduce value_of_correlation budget=cpu [games=4:2,8:2] [algorithms=vm3ac_tight,ma_sac]

Not a figure of the paper. With a common payoff some deterministic joint policy is optimal, so on
the paper's tasks a common z cannot raise what a team can reach. Against an adversary that adapts
it can: in the guard game (GuardEnv) N agents meet at one of M modes, and a guard stands where they
meet most. With a common z a team reaches 1 - 1/M, without 2^-N at most. A game is written M:N, or
M:N:width; modes are 0.3 wide for two agents, 0.6 for three and four and 0.8 for more, who never
meet at narrow ones. tasks=guarded_rendezvous or learning_prey plays the same over twenty steps,
with a z that is held for an episode, and is trained as long as is tuned for it.

The value is that of the frozen policy's actions, mean or drawn, against the best response, as
vm3ac train logs it (best_response_value), after training and over it; then with a z of its own for
every agent, and with E[z]. Mean actions without z are always the same, so the guard stands there.
ma_sac_latent has z and the marginal entropy of vm3ac_tight, and no predictor; maven draws a z per
episode, which here is one step. It writes into out:

    values.csv                 a row per game, algorithm, seed, way to act and way to come by z
    value_of_correlation.md    means over seeds with their 95% intervals, beside both closed forms
    curves.csv                 aggregated values over training
    value_of_correlation.png, modes.png, curves.png
    joint_actions_<M>_<N>.png  what the first seed of every algorithm with a latent plays
    <task>_<M>_<N>.png         where its episodes end, of games of many steps
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vm3ac_modules.cli.arguments import say
from vm3ac_modules.cli.reproduce._command import Command, program
from vm3ac_modules.cli.reproduce._games import (
    COMMON,
    Game,
    Games,
    default_width,
    game_case,
    games_of,
)
from vm3ac_modules.cli.reproduce._results import Row, cell, markdown_table
from vm3ac_modules.cli.reproduce._trainings import curve_of, plays_of, trained_panels
from vm3ac_modules.envs.guard import GuardEnv
from vm3ac_modules.envs.rng import innermost
from vm3ac_modules.evaluation.comparison import bars_figure, comparison_figure, write_curves
from vm3ac_modules.evaluation.games import guard_actions
from vm3ac_modules.evaluation.joint_actions import joint_actions_figure
from vm3ac_modules.evaluation.protocol import EXPLORATION, fixed_starts
from vm3ac_modules.evaluation.statistics import Estimate, summarize_returns
from vm3ac_modules.files import write_csv, write_text
from vm3ac_modules.learning.seeding import evaluation_seed, fork_rng
from vm3ac_modules.options import option
from vm3ac_modules.runs.loading import TrainedAgent, load_agent

__all__ = ["main"]

ALGORITHMS = (
    *("vm3ac_tight", "ma_sac_latent", "vm3ac", "vm3ac_no_latent", "ma_sac"),
    *("ma_ac", "maddpg", "si_moa", "maven"),
)
MODES = {"sample": "common z", "independent": "a z each", "mean": "z = E[z]", "none": "no z"}
COLUMNS = [
    [(latent, "mean") for latent in COMMON],
    [("independent", "mean")],
    [("mean", "mean")],
    [(latent, "drawn") for latent in COMMON],
]
"""Ways to come by z and to act, column by column."""


@dataclass(frozen=True, kw_only=True)
class ValueOfCorrelation(Games):
    """Options of this program."""

    algorithms: str = ",".join(ALGORITHMS)
    out: str = "runs/reproduce/value_of_correlation"
    episodes: int = option(4096, "episodes", least=1)


def make(command: Command) -> None:
    """Train what is missing, play, write and draw."""
    games = games_of(command)
    cases = {
        title: {name: game_case(command, game, name) for name in command.algorithms}
        for title, game in games.items()
    }
    runs = trained_panels(command, cases)
    torch.set_num_threads(1)
    table: list[dict[str, Any]] = []
    for title, by_name in runs.items():
        for algorithm, rows in by_name.items():
            for row in rows:
                for actions in ("mean", "drawn"):
                    known = {"game": title, "algorithm": algorithm, "seed": row["seed"]}
                    known["actions"] = actions
                    table += plays_of(command, row, MODES, known, actions)
    column = "best_response_value"
    curves = {
        title: {name: curve_of(command, rows, column) for name, rows in by_name.items()}
        for title, by_name in runs.items()
    }
    command.out.mkdir(parents=True, exist_ok=True)
    write_csv(command.out / "values.csv", table)
    write_curves(command.out / "curves.csv", curves)
    write_text(command.out / "value_of_correlation.md", markdown(table, games))
    draw(command, table, games)
    for title, by_name in runs.items():
        draw_joint_actions(command, games[title], by_name)
    ylabel = "value against the best response"
    comparison_figure(command.figure("curves"), curves, columns=3, ylabel=ylabel)
    say(markdown(table, games) + f"\n-> {command.out}/value_of_correlation.png, values.csv")


def draw(command: Command, table: Sequence[Mapping[str, Any]], games: Mapping[str, Game]) -> None:
    """Bars of all algorithms with a common z, and of those with a latent by way to come by it."""
    common = bars(
        [
            {**row, "game": f"{row['game']}: {row['actions']} actions"}
            for row in table
            if row["latent"] in COMMON
        ],
        "algorithm",
    )
    several = {row["algorithm"] for row in table if row["latent"] == "independent"}
    modes = [
        {**row, "game": f"{row['game']}: {row['algorithm']}", "latent": MODES[row["latent"]]}
        for row in table
        if row["algorithm"] in several and row["actions"] == "mean"
    ]
    ylabel = "value against the best response"
    # Mean and drawn actions of a game stand side by side.
    for name, columns, panels in (
        ("value_of_correlation", 2, common),
        ("modes", 3, bars(modes, "latent")),
    ):
        if panels:
            lines = {title: games[title.partition(":")[0]].values for title in panels}
            path = command.figure(name)
            bars_figure(path, panels, columns=columns, lines=lines, ylabel=ylabel)


def draw_joint_actions(command: Command, game: Game, by_name: Mapping[str, Sequence[Row]]) -> None:
    """What the first seed's mean actions are, or lead to, by where z comes from."""
    several = game.task != "guard"
    panels: dict[str, dict[str, torch.Tensor]] = {}
    for name, rows in by_name.items():
        trained = load_agent(command.runs / rows[0]["run_dir"])
        for mode in [mode for mode in MODES if mode in trained.policy.latent_modes]:
            played = ends_of(trained, mode) if several else actions_of(trained, mode)
            panels.setdefault(name, {})[MODES[mode]] = played
    if panels:
        usual = game.width == default_width(game.num_agents)
        sizes = (game.num_modes, game.num_agents, *(() if usual else (game.width,)))
        kind = game.task if several else "joint_actions"
        picture = command.figure(f"{kind}_{'_'.join(map(str, sizes))}")
        frame = GuardEnv(1, num_agents=game.num_agents, num_modes=game.num_modes, width=game.width)
        joint_actions_figure(picture, panels, frame, within=several)


def actions_of(trained: TrainedAgent, mode: Any) -> torch.Tensor:
    """Joint actions of the one-step game ``[D, N, 2]``."""
    env: Any = innermost(trained.make_env(1))
    with fork_rng(trained.seed):
        return guard_actions(trained.policy, env, latent=mode)


def ends_of(trained: TrainedAgent, mode: Any, episodes: int = 512) -> torch.Tensor:
    """Where agents are at the end of episodes of a game of many steps, ``[D, N, 2]``."""
    seed = evaluation_seed(trained.seed)
    env = trained.make_env(episodes, seed=seed)
    policy = trained.policy.with_latent(mode, seed=seed)
    with fixed_starts(env, seed, EXPLORATION["mean"]):
        steps = env.rollout(trained.task.limit(env), policy, break_when_any_done=False)
    # An agent sees its own position first.
    return steps["next", trained.agent.keys.observation][:, -1, :, :2]


def bars(table: Sequence[Mapping[str, Any]], label: str) -> dict[str, dict[str, Estimate]]:
    """Mean value over seeds per game and label."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in table:
        by_label = found.setdefault(row["game"], {})
        by_label.setdefault(row[label], []).append(row["best_response_value"])
    return {
        game: {name: summarize_returns(values).mean for name, values in by_label.items()}
        for game, by_label in found.items()
    }


def markdown(table: Sequence[Mapping[str, Any]], games: Mapping[str, Game]) -> str:
    """The values as Markdown: a row per game and algorithm, a column per way to come by z."""
    drawn = f"{MODES['sample']}, drawn actions"
    head = ["game", "algorithm", "seeds", *list(MODES.values())[:3], drawn]
    lines: list[list[str]] = []
    for title in dict.fromkeys(row["game"] for row in table):
        of_game = [row for row in table if row["game"] == title]
        for name in dict.fromkeys(row["algorithm"] for row in of_game):
            own = [row for row in of_game if row["algorithm"] == name]
            cells = [
                cell(
                    [
                        row["best_response_value"]
                        for row in own
                        if (row["latent"], row["actions"]) in wanted
                    ],
                    3,
                )
                for wanted in COLUMNS
            ]
            lines.append([title, name, str(len({row["seed"] for row in own})), *cells])
        reach = games[title].values
        cells = [f"{reach['with a common z']:.4f}", f"{reach['independent']:.4f}", "-", "-"]
        lines.append([title, "can be reached", "-", *cells])
    return markdown_table(head, lines)


main = program(make, ValueOfCorrelation, __doc__, __name__)
"""Make the figure."""
