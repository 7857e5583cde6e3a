"""BenchMARL's configurations of the algorithms, and their names on its command line.

Their values lie in ``conf/algorithm``, one file each; docs/options.md says what each option is.

Source: Kim et al. 2023, arXiv:2303.00451, Tables 1 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from benchmarl.algorithms import algorithm_config_registry
from benchmarl.algorithms.common import Algorithm, AlgorithmConfig

from vm3ac_modules.integrations.benchmarl.algorithm import MasacTwin, Vm3ac, Vm3acTight

__all__ = ["ALGORITHMS", "CONF", "MasacTwinConfig", "Vm3acConfig", "Vm3acTightConfig", "register"]

CONF = Path(__file__).with_name("conf")
"""Folder of the YAML files, laid out as BenchMARL's own."""


@dataclass
class _ActorCriticConfig(AlgorithmConfig):
    """What all of them have; off policy, continuous actions, a centralized critic."""

    name: ClassVar[str]
    algorithm: ClassVar[type[Algorithm]]

    share_param_critic: bool
    reward_scale: float
    critic: str
    critic_input: str
    policy_q: str
    log_std: str
    beta: float
    auto_beta: str | None
    beta_target: float | None
    beta_lr: float
    beta_end: float | None
    beta_frames: int | None
    latent_dim: int
    prior: str | None
    num_latents: int
    latent_gain: float

    @classmethod
    def get_from_yaml(cls, path: str | None = None) -> Any:
        """Read the values from a YAML file.

        Args:
            path: the file; the one of this package by default.
        """
        return super().get_from_yaml(path or str(CONF / "algorithm" / f"{cls.name}.yaml"))

    @classmethod
    def associated_class(cls) -> type[Algorithm]:
        """The algorithm."""
        return cls.algorithm

    @staticmethod
    def on_policy() -> bool:
        """They learn from a replay."""
        return False

    @staticmethod
    def supports_continuous_actions() -> bool:
        """Their policies are tanh-Gaussian."""
        return True

    @staticmethod
    def supports_discrete_actions() -> bool:
        """Discrete actions come in whole episodes here, which BenchMARL does not replay."""
        return False

    @staticmethod
    def has_centralized_critic() -> bool:
        """Critics see all agents of the group."""
        return True


@dataclass
class MasacTwinConfig(_ActorCriticConfig):
    """VM3-AC's twin: this package's MA-SAC, beside BenchMARL's own ``masac``."""

    name = "masac_twin"
    algorithm = MasacTwin


@dataclass
class Vm3acConfig(_ActorCriticConfig):
    """VM3-AC in the paper's form.

    Example:
        >>> config = Vm3acConfig.get_from_yaml()
        >>> config.beta, config.latent_dim
        (0.1, 8)
    """

    name = "vm3ac"
    algorithm = Vm3ac

    predictor_scale: float | str
    predictor_normalized: bool
    predictor_components: int
    predictor_share_params: bool
    pair_weight: str
    reverse_model: str
    estimator: str
    pairs: int | None


@dataclass
class Vm3acTightConfig(Vm3acConfig):
    """VM3-AC with marginal entropy from below (K = 16) and a learned scale of the predictor."""

    name = "vm3ac_tight"
    algorithm = Vm3acTight


ALGORITHMS: dict[str, type[AlgorithmConfig]] = {
    config.name: config for config in (Vm3acConfig, Vm3acTightConfig, MasacTwinConfig)
}
"""Configuration by name on BenchMARL's command line."""


def register() -> None:
    """Make the algorithms known to BenchMARL by name, and to Hydra's command lines of it.

    Hydra itself finds the YAML files and calls this, in every program that has imported BenchMARL
    (``hydra_plugins``). Scripts without Hydra need it only to look algorithms up by name.

    Example:
        >>> register()
        >>> algorithm_config_registry["vm3ac"].__name__
        'Vm3acConfig'
    """
    algorithm_config_registry.update(ALGORITHMS)
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for name, config in ALGORITHMS.items():
        store.store(name=f"{name}_config", group="algorithm", node=config)
