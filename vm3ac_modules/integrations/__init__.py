"""This package inside other libraries' training loops."""

__all__: list[str] = []
