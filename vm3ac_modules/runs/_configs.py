"""Configurations compared: a hash, and what differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any


def config_hash(config: Mapping[str, Any]) -> str:
    """Hash a configuration, whatever the order of its keys."""
    text = json.dumps(dict(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(config, Mapping) and config:
        for key, value in config.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, json.dumps(config)


def differences(saved: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """List the differences of two configurations, one sentence each."""
    old, new = dict(_leaves(saved)), dict(_leaves(given))
    return [
        f"{key}: checkpoint has {old.get(key, 'nothing')}, this run has {new.get(key, 'nothing')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
