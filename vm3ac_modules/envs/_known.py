"""What trainings have shown of algorithms that do not learn a task: a sentence for each.

A run says it at its start, before anybody waits for a curve that stays flat. Rows name what was
measured, with the default options of the algorithm; nothing is concluded of others.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["known_failures"]

FAILURES: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("vm3ac", "vm3ac_no_latent", "ma_sac", "ma_ac", "maddpg", "si_moa", "maven"),
        "guard",
        "{algorithm} with its default options is known not to learn this game: against the best "
        "response its mean actions were worth 0.07 at most, on the mean over seven seeds, and a "
        "common z can be worth 0.75; take algorithm=vm3ac_tight or algorithm=ma_sac_latent "
        "(docs/when_a_latent_helps.md)",
    ),
    (
        ("ma_sac",),
        "guarded_rendezvous",
        "{algorithm} with its default options is known not to learn this game: its mean actions "
        "were worth 0 against the best response, over seven seeds; take "
        "algorithm=vm3ac_tight, which reached 0.42 to 0.70 (docs/when_a_latent_helps.md)",
    ),
    (
        ("fop", "dop", "lica", "vdac"),
        "battle/games/sparse/guard",
        "{algorithm} with its default options is known not to learn this game: its likeliest "
        "actions were worth 0 against the best response, over seven seeds; take "
        "algorithm=vm3ac, which reached 0.73 of 0.75 (docs/known_answers.md)",
    ),
    *(
        (
            algorithms,
            f"battle/games/sparse/{game}",
            "{algorithm} with its default options is known not to find the best return of this "
            f"game: it did in none of five seeds; {better} in some (docs/known_answers.md)",
        )
        for game, algorithms, better in (
            ("climbing", ("vm3ac", "fop", "dop", "vdac", "maven"), "algorithm=lica did"),
            ("penalty", ("vm3ac", "dop", "vdac", "maven"), "algorithm=lica and fop did"),
            ("non_monotonic", ("dop", "vdac", "maven"), "algorithm=vm3ac, fop and lica did"),
            ("two_step", ("vm3ac", "fop", "vdac"), "algorithm=dop, maven and lica did"),
        )
    ),
)
"""Algorithms, task, and the sentence."""


def known_failures(task: str) -> Mapping[str, str]:
    """A sentence by algorithm, of those that are known not to learn a task.

    Args:
        task: name of the task.

    Example:
        >>> sorted(known_failures("battle/games/sparse/guard"))
        ['dop', 'fop', 'lica', 'vdac']
    """
    return {
        algorithm: text.format(algorithm=algorithm)
        for algorithms, name, text in FAILURES
        if name == task
        for algorithm in algorithms
    }
