"""Hydra's configurations of the algorithms, laid out as BenchMARL's own."""

__all__: list[str] = []
