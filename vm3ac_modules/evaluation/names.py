"""Names and numbers as people read them, in legends, titles, lines and tables.

Names are those of the VM3-AC paper, or the algorithm's own.

Source: Kim et al. 2023, arXiv:2303.00451, Figure 3 and Section 6.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = [
    "TASK_TITLES",
    "algorithm_title",
    "decimals",
    "metric_title",
    "plus_minus",
    "task_title",
]

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
    "battle_won": "win rate",
    "greedy_win_rate": "win rate, greedy",
    "best_response_value": "best-response value",
    "mi_upper_bound": "MI from above, nats",
    "mi_lower_bound": "MI from below, nats",
    "mutual_information": "MI, nats",
    "latent_share": "share of z",
}


def decimals(*values: float) -> int:
    """How many decimals show three digits of the largest of some returns; one to six.

    Args:
        values: what stands side by side; what is not finite does not count.

    Example:
        >>> decimals(751.8, 53.9), decimals(0.321, 0.011), decimals(0.0)
        (1, 3, 1)
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return 1 if largest == 0 else min(max(2 - math.floor(math.log10(largest)), 1), 6)


def plus_minus(value: float, half: float, digits: int | None = None) -> str:
    """A return and half the width of its interval, which one episode has not.

    Args:
        value: the return.
        half: half the width; nothing of it is said where it is not finite.
        digits: decimals; three digits of the larger one by default.

    Example:
        >>> plus_minus(0.3214, 0.0107), plus_minus(-104.9, math.nan)
        ('0.321 +- 0.011', '-104.9')
    """
    shown = decimals(value, half) if digits is None else digits
    own = f"{round(value, shown) + 0.0:.{shown}f}"
    return f"{own} +- {half:.{shown}f}" if math.isfinite(half) else own


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
