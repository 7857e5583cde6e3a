"""Networks of several seeds on the rows of one environment.

Shapes: ``S`` seeds, ``B`` rows per seed.
"""

from __future__ import annotations

from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase

__all__ = ["PerSeed"]


class PerSeed(TensorDictModuleBase):
    """Run a module with stacked parameters on the rows of an environment, seed by seed.

    Args:
        module: reads and writes ``[S, B, ...]``.
        seeds: number of seeds S.

    Example:
        >>> from tensordict import TensorDict
        >>> from vm3ac_modules.modules.network import NetworkModule
        >>> from vm3ac_modules.nn import JointNet
        >>> net = JointNet(3, 2, stack_shape=(4,))
        >>> module = PerSeed(NetworkModule(net, {"x": "x"}, ["y"]), 4)
        >>> module(TensorDict({"x": torch.zeros(4 * 5, 3)}, [20]))["y"].shape
        torch.Size([20, 2])
    """

    def __init__(self, module: TensorDictModuleBase, seeds: int) -> None:
        super().__init__()
        self.module, self.seeds = module, seeds
        self.in_keys, self.out_keys = list(module.in_keys), list(module.out_keys)
        if hasattr(module, "out_sizes"):
            self.out_sizes = module.out_sizes

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the module's outputs into the rows ``[S * B]``."""
        rows = tensordict.select(*self.in_keys).reshape(self.seeds, -1)
        out = self.module(rows)
        for key in self.out_keys:
            tensordict.set(key, out.get(key).flatten(0, 1))
        return tensordict
