"""Display names for legends and titles, from the VM3-AC paper or the algorithm's own.

Source: Kim et al. 2023, arXiv:2303.00451, Figure 3 and Section 6.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["TASK_TITLES", "algorithm_title", "metric_title", "task_title"]

TASK_TITLES = {
    "multiwalker_3": "MW (N=3)",
    "multiwalker_4": "MW (N=4)",
    "predator_prey_2": "PP (N=2)",
    "predator_prey_3": "PP (N=3)",
    "predator_prey_4": "PP (N=4)",
    "treasure_collection_4": "CTC (N=4)",
    "treasure_collection_5": "CTC (N=5)",
    "cooperative_navigation_3": "CN (N=3)",
}
"""The tasks of the paper's Figure 3, in its order, and what it calls them."""

_ALGORITHMS = {
    "vm3ac": "VM3-AC",
    "ma_ac": "MA-AC",
    "ma_sac": "MA-SAC",
    "maddpg": "MADDPG",
    "maven": "MAVEN",
    "si_moa": "SI-MOA",
    "dop": "DOP",
    "fop": "FOP",
    "lica": "LICA",
    "vdac": "VDAC",
}
_METRICS = {
    "return_mean": "return",
    "win_rate": "win rate",
    "greedy_win_rate": "win rate, greedy",
    "best_response_value": "best-response value",
    "mi_upper_bound": "MI from above, nats",
    "mi_lower_bound": "MI from below, nats",
    "mutual_information": "MI, nats",
    "latent_share": "share of z",
}


def algorithm_title(name: str) -> str:
    """The name of an algorithm as papers write it; a variant's words follow.

    Args:
        name: its name on the command line; any other text comes back unchanged.

    Example:
        >>> algorithm_title("vm3ac_tight"), algorithm_title("ma_sac"), algorithm_title("mine")
        ('VM3-AC tight', 'MA-SAC', 'mine')
    """
    known = [key for key in _ALGORITHMS if name == key or name.startswith(f"{key}_")]
    if not known:
        return name
    longest = max(known, key=len)
    rest = name[len(longest) :].replace("_", " ")
    return f"{_ALGORITHMS[longest]}{rest.replace(' cpu', ' (CPU settings)')}"


def task_title(name: str) -> str:
    """What the paper calls a task; another one's own name.

    Args:
        name: its name on the command line.

    Example:
        >>> task_title("predator_prey_2"), task_title("guard")
        ('PP (N=2)', 'guard')
    """
    return TASK_TITLES.get(name, name)


def metric_title(column: str) -> str:
    """What a column of eval.csv is called beside an axis.

    Args:
        column: its name.

    Example:
        >>> metric_title("return_mean"), metric_title("captures")
        ('return', 'captures')
    """
    return _METRICS.get(column, column.replace("_", " "))


def titles(names: Iterable[str]) -> dict[str, str]:
    """Titles of several algorithms by name; the names themselves where two would be alike."""
    given = list(names)
    found = {name: algorithm_title(name) for name in given}
    return found if len(set(found.values())) == len(found) else {name: name for name in given}
