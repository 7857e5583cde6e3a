"""Trained agents as two small files: weights as safetensors, and a card that says what they are.

A checkpoint goes on training; a packed agent only acts. It keeps what evaluation and export need
(policy, predictor) and leaves out critics, targets, optimizers and the replay. The package brings
some, ``zoo/<name>``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from vm3ac_modules.extras import require_extra
from vm3ac_modules.files import finite, write_bytes, write_json
from vm3ac_modules.options import meant
from vm3ac_modules.runs._configs import config_hash
from vm3ac_modules.runs._migrations import VERSION, migrated
from vm3ac_modules.runs._reading import DEEPEST, is_deeper, is_whole, read_meta
from vm3ac_modules.runs._step_directory import fingerprint
from vm3ac_modules.runs.checkpoint import CheckpointError, checkpoint_identity, load_checkpoint
from vm3ac_modules.runs.directory import RunDirectoryError
from vm3ac_modules.runs.record import writer

__all__ = [
    "SavedAgent",
    "agent_identity",
    "files_directory",
    "pack_agent",
    "read_agent",
    "read_card",
    "zoo_names",
]

FORMAT = 2
READS = (1, FORMAT)
"""Formats that are read; cards of the first have no hash of their own."""
CARD, WEIGHTS = "card.json", "policy.safetensors"
SEAL = "card_sha256"
PREFIX = "zoo/"
ZOO = Path(__file__).with_name("trained")
LEFT_OUT = ("target_", "qvalue_", "value_", "critic_", "mixer_")
"""How names of networks begin that only training needs."""


class SavedAgent(NamedTuple):
    """What :func:`read_agent` returns: all tensors are on the CPU."""

    frame: int
    loss: Mapping[str, Any]
    """State of the loss; of a packed agent only what acts."""
    carried: Any
    config: dict[str, Any]
    acts_only: bool
    """Whether critics were left out."""
    trained_by: Mapping[str, Any] = {}
    """Versions and commit that it was trained with."""


def zoo_names() -> list[str]:
    """Names of the trained agents that the package brings, as :func:`load_agent` takes them.

    Example:
        >>> "zoo/predator_prey_2" in zoo_names()
        True
    """
    return sorted(f"{PREFIX}{path.parent.name}" for path in ZOO.glob(f"*/{CARD}"))


def located(source: Path | str) -> Path:
    """The directory that a name of the zoo, or a path, stands for.

    Raises:
        CheckpointError: for a name that the zoo does not have.
    """
    path = Path(source)
    if path.is_dir() or not path.as_posix().startswith(PREFIX):
        return path
    found = ZOO / path.as_posix().removeprefix(PREFIX)
    if found.parent != ZOO or not (found / CARD).is_file():
        name, known = path.as_posix(), zoo_names()
        raise CheckpointError(
            f"the zoo has no {name}{meant(name, known)}; it has {', '.join(known)}. Directories of "
            "your own go by their path."
        )
    return found


def files_directory(source: Path | str) -> Path:
    """Where programs write what they find of an agent: its run, or runs/zoo/<name> for the zoo's.

    Args:
        source: directory of a run or of a packed agent, or a name of the zoo.

    Returns:
        The directory; made if it is missing.

    Example:
        >>> files_directory("runs").as_posix()
        'runs'
    """
    where = located(source)
    if where.parent != ZOO:
        return Path(source)
    place = Path("runs") / PREFIX / where.name
    place.mkdir(parents=True, exist_ok=True)
    return place


def agent_identity(source: Path | str) -> dict[str, Any]:
    """Return hashes that identify a trained agent.

    Args:
        source: directory of a run or of a packed agent, or a name of the zoo.

    Returns:
        ``"sha256"`` of the networks' file, ``"frame"``, and ``"config_sha256"``.

    Raises:
        CheckpointError: if there is no checkpoint and no packed agent.
    """
    where = located(source)
    if not (where / CARD).is_file():
        return checkpoint_identity(where)
    card = read_card(where)
    return {
        "sha256": card["sha256"],
        "frame": card["frame"],
        "config_sha256": card["config_sha256"],
    }


def read_agent(source: Path | str) -> SavedAgent:
    """Read what a trained agent consists of, after checking every file.

    Args:
        source: directory of a run or of a packed agent, or a name of the zoo.

    Returns:
        The state of the loss, the configuration and the frame.

    Raises:
        CheckpointError: if there is nothing to read, or a file is damaged or of a newer format.
        ImportError: if safetensors is not installed; names the extra.
    """
    where = located(source)
    if (where / CARD).is_file():
        return _read_packed(where)
    saved = load_checkpoint(where, replay=False)
    loss, carried = saved.state.get("loss"), saved.state.get("carried")
    if not isinstance(loss, dict):
        raise CheckpointError(f"{where} does not say what its networks hold.")
    return SavedAgent(saved.frame, loss, carried, saved.config, False, saved.written_by)


def read_card(source: Path | str) -> dict[str, Any]:
    """What the card of a packed agent says.

    Args:
        source: directory of a packed agent, or a name of the zoo.

    Raises:
        CheckpointError: if there is none, or it is damaged or of a newer format.

    Example:
        >>> read_card("zoo/guard")["algorithm"]
        'vm3ac_tight'
    """
    path = located(source) / CARD
    try:
        if not path.is_file():
            raise CheckpointError(f"{path.parent} holds no packed agent: there is no {CARD}.")
        # The same limits as for a checkpoint's meta.json, which somebody else may have written.
        card = read_meta(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: it {error}. Get the directory again.") from error
    if card["version"] not in READS:
        raise CheckpointError(
            f"{path.parent} has format version {card['version']}, this package reads {READS[0]} to "
            f"{READS[-1]}: update vm3ac-modules to read it."
        )
    kinds = {"sha256": str, "config": dict, "trained_by": dict, "config_sha256": str}
    kinds |= {"left_out": list}
    wrong = [key for key, kind in kinds.items() if not isinstance(card.get(key), kind)]
    wrong += [key for key in ("frame", "size", "checkpoint_version") if not is_whole(card.get(key))]
    if is_deeper(card, DEEPEST):
        raise CheckpointError(f"{path} is nested too deeply. Get the directory again.")
    if wrong:
        named = ", ".join(wrong)
        raise CheckpointError(
            f"{path} is damaged: {named} is missing or of another kind. Get the directory again."
        )
    if card["version"] > 1 and _sealed(card) != card:
        raise CheckpointError(
            f"{path} was changed since it was written: its SHA-256 differs. Get the directory "
            "again, or measure and pack the agent anew."
        )
    return card


def _sealed(card: Mapping[str, Any]) -> dict[str, Any]:
    """A card with the hash of all that it says."""
    said = finite({key: value for key, value in card.items() if key != SEAL})
    return {**said, SEAL: config_hash(said)}


def _read_packed(where: Path) -> SavedAgent:
    require_extra("safetensors", "recipes", "Reading a packed agent")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    card, path = read_card(where), where / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{path} is missing. Get the directory again.")
    if fingerprint(path) != {key: card[key] for key in ("size", "sha256")}:
        raise CheckpointError(
            f"{path} is not the file that {CARD} describes: its SHA-256 differs. Get the directory "
            "again; nothing of it was loaded."
        )
    if config_hash(card["config"]) != card["config_sha256"]:
        raise CheckpointError(
            f"{where / CARD} was changed since it was written: the hash of its configuration "
            "differs. Get the directory again."
        )
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors ({error}).") from error
    loss: dict[str, Tensor] = {}
    carried: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition("|")
        if kind == "loss":
            loss[rest] = value
        else:
            part, _, key = rest.partition("|")
            carried.setdefault(part, {})[key] = value
    try:
        state = migrated(card["checkpoint_version"], {"loss": loss, "carried": carried})
    except KeyError:
        raise CheckpointError(
            f"{where} was packed from a checkpoint of version {card['checkpoint_version']}, this "
            f"package reads up to {VERSION}: update vm3ac-modules to read it."
        ) from None
    return SavedAgent(
        card["frame"], state["loss"], state["carried"], card["config"], True, card["trained_by"]
    )


def pack_agent(
    run_dir: Path | str,
    out: Path | str,
    *,
    about: Mapping[str, Any] | None = None,
    evaluation: Callable[[Path], Mapping[str, Any]] | None = None,
) -> Path:
    """Write the agent of a run's last checkpoint as two files: a card, and its weights.

    Args:
        run_dir: directory of a run, or of a packed agent.
        out: directory of the packed agent; made if it is missing.
        about: what the card says besides, e.g. the algorithm, the command and the licence.
        evaluation: measures the packed agent in its directory; the card then says what it found.

    Returns:
        The directory ``out``.

    Raises:
        CheckpointError: if there is no readable checkpoint.
        RunDirectoryError: if ``out`` is a run's directory.
        ImportError: if safetensors is not installed; names the extra.
    """
    require_extra("safetensors", "recipes", "Packing an agent")
    from safetensors.torch import save

    saved, place = read_agent(run_dir), Path(out)
    if (place / "checkpoint").exists():
        raise RunDirectoryError(f"{place} is a run's directory; give another one as out.")
    kept = {k: v for k, v in saved.loss.items() if not k.startswith(LEFT_OUT)}
    left_out = {k.split(".")[0] for k in saved.loss if k not in kept}
    if saved.acts_only:
        left_out.update(map(str, read_card(run_dir)["left_out"]))
    tensors = {f"loss|{k}": v.contiguous() for k, v in kept.items() if isinstance(v, Tensor)}
    for part, state in saved.carried.items():
        tensors |= {f"carried|{part}|{key}": value.contiguous() for key, value in state.items()}
    config = {**saved.config, "run_dir": "", "resume": False, "overwrite": False, "trust": False}
    place.mkdir(parents=True, exist_ok=True)
    write_bytes(place / WEIGHTS, save(tensors))
    card: dict[str, Any] = {
        "version": FORMAT,
        **(about or {}),
        "frame": saved.frame,
        "left_out": sorted(left_out),
        **fingerprint(place / WEIGHTS),
        "checkpoint_version": VERSION,
        "config_sha256": config_hash(config),
        "config": config,
        "trained_by": dict(saved.trained_by),
        "packed_by": writer(),
    }
    write_json(place / CARD, _sealed(card))
    if evaluation is not None:
        # Of the files as they will be read, so a card never praises what does not load.
        write_json(place / CARD, _sealed({**card, "evaluation": dict(evaluation(place))}))
    return place
