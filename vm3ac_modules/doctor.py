"""``python -m vm3ac_modules.doctor``: what is installed, what is missing, and what to do.

Optional packages are looked up in the installer's records and not imported, unless ``--import`` is
given.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["Finding", "Surroundings", "diagnose", "main"]

PACKAGE = "vm3ac-modules"
CORE = ("torch", "torchrl", "tensordict")
EXTRAS = (
    *("vmas", "pettingzoo", "smax", "recipes", "testing", "reproduce", "export", "ray", "sweep"),
    *("video", "wandb", "mlflow"),
)
# What --import imports for an extra; the rest goes by the names of the distributions.
PROBES: dict[str, tuple[str, ...]] = {
    "vmas": ("vmas",),
    "pettingzoo": ("pettingzoo", "Box2D", "mpe2"),
    "recipes": ("hydra", "tqdm", "matplotlib", "tensorboard", "imageio", "scipy", "safetensors"),
    "testing": ("hypothesis",),
    "reproduce": ("rliable", "pandas"),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "sweep": ("joblib", "submitit"),
}
GAMES = ("smac", "smacv2")
INSTALL_GAME = 'pip install "git+https://github.com/oxwhirl/{}.git"'
INSTALL_SMACLITE = 'pip install "git+https://github.com/uoe-agents/smaclite.git"'
SMACLITE_NEEDS = {"gymnasium": "gymnasium", "scikit-learn": "scikit-learn", "rtree": "Rtree"}
"""Distributions that SMAClite imports, as installers' records and as pip name them."""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Args:
        status: ``"ok"``, ``"note"`` (nothing to do), ``"absent"`` (optional and not there),
            ``"problem"`` (optional and not usable) or ``"broken"`` (nothing works without it).
        what: what was found.
        fix: what to do, for all but the first two.
    """

    status: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.status:<8}{self.what}" + (f" -> {self.fix}" if self.fix else "")


@dataclass(frozen=True)
class Surroundings:
    """What a diagnosis looks at, so that any machine can be described in a test.

    Args:
        versions: of the installed distributions, by their normalized names.
        requirements: of this package, as its metadata lists them.
        folders: where the packages ``smac``, ``smacv2``, ``smaclite`` and ``pysc2`` lie, if they
            are there.
        environ: environment variables.
        home: the user's home folder.
        python: version of Python.
        cuda: names of the CUDA devices; ``None`` if torch was not asked.
        errors: what importing a module raised, by its name.
        extension: whether TorchRL's compiled extension loads.
    """

    versions: Mapping[str, str]
    requirements: tuple[str, ...] = ()
    folders: Mapping[str, Path] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    home: Path = Path()
    python: str = ""
    cuda: tuple[str, ...] | None = None
    errors: Mapping[str, str] = field(default_factory=dict)
    extension: bool = True

    @classmethod
    def here(cls, import_extras: bool = False) -> Surroundings:
        """This machine.

        Args:
            import_extras: import the packages of the extras as well, which takes a while.
        """
        found = importlib.metadata.distributions()
        versions = {_normalized(d.metadata["Name"]): d.version for d in found if d.metadata["Name"]}
        probes = [*CORE]
        if import_extras:
            probes += [module for modules in PROBES.values() for module in modules]
        errors = {module: error for module in probes if (error := _import_error(module))}
        if import_extras and "jaxmarl" in versions and (error := _smax_error()):
            errors["jaxmarl"] = error
        specs = {name: find_spec(name) for name in (*GAMES, "smaclite", "pysc2")}
        places = {n: s.submodule_search_locations for n, s in specs.items() if s is not None}
        return cls(
            versions=versions,
            requirements=tuple(_requirements()),
            folders={name: Path(place[0]) for name, place in places.items() if place},
            environ=os.environ,
            home=Path.home(),
            python=platform.python_version(),
            cuda=None if "torch" in errors else _cuda_devices(),
            errors=errors,
            extension=not _import_error("torchrl._torchrl"),
        )


def diagnose(found: Surroundings) -> list[Finding]:
    """Judge what was found.

    Args:
        found: :meth:`Surroundings.here`, or a machine made up for a test.

    Returns:
        The lines of the report, in order; every problem has its fix.

    Example:
        >>> from vm3ac_modules.doctor import Surroundings, diagnose
        >>> findings = diagnose(Surroundings(versions={}))
        >>> print(findings[1])
        broken  torch is not installed -> pip install vm3ac-modules
    """
    return [
        Finding("ok", f"Python {found.python} on {platform.machine()}"),
        *_core(found),
        *(_extra(found, extra) for extra in EXTRAS),
        _smaclite(found),
        *_games(found),
    ]


def _core(found: Surroundings) -> Iterable[Finding]:
    fits = _requirements_of(found, "")
    for name in CORE:
        version, error = found.versions.get(name), found.errors.get(name)
        if version is None:
            yield Finding("broken", f"{name} is not installed", f"pip install {PACKAGE}")
        elif error:
            again = f"pip install --force-reinstall {name}=={version}"
            yield Finding("broken", f"{name} {version} does not import: {error}", again)
        elif name in fits and not fits[name].contains(version, prereleases=True):
            wanted = f"pip install '{name}{fits[name]}'"
            yield Finding("broken", f"{name} {version} is not {fits[name]}", wanted)
        else:
            yield Finding("ok", f"{name} {version}")
    yield Finding("ok", f"{PACKAGE} {found.versions.get(PACKAGE, 'from source')}")
    if found.cuda is not None:
        devices = ", ".join(found.cuda) or "none; device=cpu works, device=cuda does not"
        yield Finding("ok" if found.cuda else "note", f"CUDA devices: {devices}")
    if not found.extension and "torchrl" in found.versions:
        text = "TorchRL's compiled extension does not load under this torch; nothing here needs it"
        yield Finding("note", text)


def _extra(found: Surroundings, extra: str) -> Finding:
    wanted = _requirements_of(found, extra)
    install = f"pip install '{PACKAGE}[{extra}]'"
    if not wanted:
        what = f"extra {extra}: the package was installed before it had this extra"
        return Finding("problem", what, f"pip install -e '.[{extra}]' where its files are")
    missing = [name for name in wanted if name not in found.versions]
    if missing:
        return Finding("absent", f"extra {extra}: {', '.join(missing)} not installed", install)
    for name, specifier in wanted.items():
        if not specifier.contains(found.versions[name], prereleases=True):
            what = f"extra {extra}: {name} {found.versions[name]} is not {specifier}"
            return Finding("problem", what, install)
    for module in (*PROBES.get(extra, ()), *wanted):
        if module in found.errors:
            what = f"extra {extra}: {module} does not import: {found.errors[module]}"
            return Finding("problem", what, install)
    versions = ", ".join(f"{name} {found.versions[name]}" for name in wanted)
    return Finding("ok", f"extra {extra}: {versions}")


def _smaclite(found: Surroundings) -> Finding:
    if "smaclite" not in found.folders:
        what = "smaclite (SMAC's maps on the CPU, without the game; optional)"
        return Finding("absent", what, INSTALL_SMACLITE)
    missing = [pip for name, pip in SMACLITE_NEEDS.items() if name not in found.versions]
    if missing:
        what = f"smaclite needs {', '.join(missing)}, which is not installed"
        return Finding("problem", what, f"pip install {' '.join(missing)}")
    return Finding("ok", f"smaclite {found.versions.get('smaclite', '')}".rstrip())


def _games(found: Surroundings) -> Iterable[Finding]:
    smac = found.folders.get("smac")
    right = [
        name
        for name in GAMES
        if name in found.folders and (found.folders[name] / "env" / "starcraft2").is_dir()
    ]
    if smac is not None and "smac" not in right:
        yield Finding(
            "problem",
            f"the package 'smac' in {smac} is PyPI's AutoML optimizer, not the StarCraft challenge",
            f"pip uninstall smac, then {INSTALL_GAME.format('smac')}",
        )
    for name in GAMES:
        if name in right:
            yield Finding("ok", f"{name} {found.versions.get(name, '')}".rstrip())
        elif name not in found.folders:
            what = f"{name} (StarCraft II; optional, SMAX needs no game)"
            yield Finding("absent", what, INSTALL_GAME.format(name))
    if right:
        yield from _protobuf(found, right)
    if right or "SC2PATH" in found.environ:
        yield from _starcraft(found)


def _protobuf(found: Surroundings, games: list[str]) -> Iterable[Finding]:
    version = found.versions.get("protobuf")
    if version is not None and _numbers(version) >= (3, 21):
        yield Finding(
            "problem",
            f"protobuf {version}: {' and '.join(games)} need protobuf<3.21, which other extras may "
            "not accept",
            "use an environment of its own for StarCraft and pip install 'protobuf<3.21' there",
        )
    if "pysc2" not in found.folders:
        yield Finding("problem", "pysc2 is not installed", f"reinstall {games[0]}")


def _starcraft(found: Surroundings) -> Iterable[Finding]:
    given = found.environ.get("SC2PATH")
    path = Path(given) if given else found.home / "StarCraftII"
    origin = "SC2PATH" if given else "SC2PATH is not set; default"
    if not path.is_dir():
        fix = "unpack Blizzard's StarCraft II 4.10 for Linux and set SC2PATH to its folder"
        yield Finding("problem", f"no StarCraft II in {path} ({origin})", fix)
        return
    binaries = sorted(path.glob("Versions/Base*/SC2_x64"))
    if binaries:
        yield Finding("ok", f"StarCraft II: {binaries[-1]} ({origin})")
    else:
        fix = "unpack the Linux package into it again"
        yield Finding("problem", f"no Versions/Base*/SC2_x64 in {path} ({origin})", fix)
    maps = len([*path.glob("Maps/SMAC_Maps/*.SC2Map")])
    if maps:
        yield Finding("ok", f"{maps} maps in {path / 'Maps' / 'SMAC_Maps'}")
    else:
        fix = "unpack SMAC_Maps.zip of oxwhirl/smac's releases into $SC2PATH/Maps"
        yield Finding("problem", f"no maps in {path / 'Maps' / 'SMAC_Maps'}", fix)


def _requirements_of(found: Surroundings, extra: str) -> dict[str, Any]:
    """Version ranges of an extra's distributions, or of the core for an empty name."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return {}
    wanted = {}
    for requirement in map(Requirement, found.requirements):
        marker, name = requirement.marker, _normalized(requirement.name)
        environment = {"extra": extra}
        of_extra = marker is not None and "extra" in str(marker)
        if of_extra == bool(extra) and (marker is None or marker.evaluate(environment)):
            wanted[name] = requirement.specifier
    return wanted


def _normalized(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _requirements() -> list[str]:
    try:
        return importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _import_error(module: str) -> str:
    return _error_of(partial(importlib.import_module, module))


def _smax_error() -> str:
    from vm3ac_modules.envs.battles._smax_game import load_jax

    return _error_of(load_jax)


def _error_of(load: Callable[[], object]) -> str:
    try:
        load()
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return ""


def _cuda_devices() -> tuple[str, ...]:
    import torch

    return tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def main(arguments: list[str] | None = None) -> int:
    """Write the report to standard output.

    Args:
        arguments: of the command line; those of the process by default.

    Returns:
        The exit status: 1 if something is broken that everything needs, else 0.
    """
    parser = argparse.ArgumentParser(prog="python -m vm3ac_modules.doctor", description=__doc__)
    parser.add_argument(
        "--import", dest="imports", action="store_true", help="also import the extras' packages"
    )
    options = parser.parse_args(arguments)
    findings = diagnose(Surroundings.here(options.imports))
    sys.stdout.writelines(f"{finding}\n" for finding in findings)
    return int(any(finding.status == "broken" for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
