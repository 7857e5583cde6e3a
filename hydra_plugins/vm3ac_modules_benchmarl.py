"""Lets BenchMARL's command lines find the algorithms of this package.

Hydra imports every module of ``hydra_plugins`` in every program of its own. Programs that have not
imported BenchMARL are left as they are.
"""

from __future__ import annotations

import sys

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

__all__ = ["BenchmarlSearchPath"]


class BenchmarlSearchPath(SearchPathPlugin):
    """Adds this package's YAML files to where BenchMARL's are looked for."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Register the algorithms, and append the folder.

        Args:
            search_path: Hydra's search path.
        """
        if "benchmarl" in sys.modules:
            from vm3ac_modules.integrations.benchmarl import register

            register()
            search_path.append("vm3ac_modules", "pkg://vm3ac_modules.integrations.benchmarl.conf")
