"""Execute docs/notebooks and write their outputs: ``python docs/make_notebooks.py [NAME ...]``.

Every notebook gets a kernel, a folder and settings of IPython of its own, so that nothing of the
machine or of another notebook reaches it. A cell that raises, an ``assert`` among them, stops the
program; so does whatever :func:`problems` finds. What an execution leaves in the metadata is
dropped: a second one changes no line unless a result changed. With ``--check`` nothing is written
(``make notebooks``).
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from traitlets.config import Config

FOLDER = Path(__file__).with_name("notebooks")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
LARGEST_PICTURE = 60_000
"""Of one picture, in bytes."""
LONGEST = 600
"""Seconds that a cell may take on a busy machine; on an idle one none takes a minute."""
MACHINE = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|Users|usr|opt|var|mnt)/|\b[A-Z]:\\\\?\w")
"""Paths that say where a notebook was executed."""


def execute(path: Path) -> NotebookNode:
    """Run a notebook from a clean kernel, in an empty folder.

    Args:
        path: the notebook; it is not written.

    Returns:
        The notebook with its outputs, cleaned.

    Raises:
        CellExecutionError: a cell raised; says which, and what.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as place:
        # The kernel is started with them: no settings of the user's, one thread, no progress bars.
        own = {"IPYTHONDIR": f"{place}/ipython", "MPLCONFIGDIR": f"{place}/matplotlib"}
        quiet = {"OMP_NUM_THREADS": "1", "RL_LOGGING_LEVEL": "ERROR", "TQDM_DISABLE": "1"}
        os.environ.update(own | quiet)
        client = NotebookClient(
            notebook,
            timeout=LONGEST,
            kernel_name="python3",
            coalesce_streams=True,
            record_timing=False,
            # Sockets of the file system: no port that others could listen to.
            config=Config({"KernelManager": {"transport": "ipc", "ip": f"{place}/socket"}}),
            resources={"metadata": {"path": place}},
        )
        client.execute()
    return cleaned(notebook)


def cleaned(notebook: NotebookNode) -> NotebookNode:
    """Drop what an execution or an editor leaves and no reader needs; changes the notebook."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = NotebookNode()
            # Where there is a picture, nobody reads what the object is called.
            if "image/png" in output.get("data", {}):
                output.data = NotebookNode({"image/png": output.data["image/png"]})
    return notebook


def problems(notebook: NotebookNode) -> Iterator[str]:
    """What must not stand in a notebook that is committed, one line each."""
    if notebook.metadata != METADATA:
        yield f"its metadata are {dict(notebook.metadata)}"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        yield "its cells were not executed once, from the first to the last"
    if not any(cell.outputs for cell in code):
        yield "it has no outputs"
    for cell in notebook.cells:
        for said in _problems_of_cell(cell):
            yield f"cell {cell.id}: {said}"


def _problems_of_cell(cell: NotebookNode) -> Iterator[str]:
    if cell.metadata:
        yield f"it has metadata {dict(cell.metadata)}"
    texts = [cell.source]
    for output in cell.get("outputs", []):
        if output.output_type == "error":
            yield f"it raised {output.ename}"
            continue
        if output.get("name") == "stderr":
            yield f"it wrote to standard error: {output.text.strip()[:200]}"
        data = output.get("data", {})
        texts += [output.get("text", ""), *(str(v) for k, v in data.items() if "image" not in k)]
        size = len(base64.b64decode(data.get("image/png", "")))
        if size > LARGEST_PICTURE:
            yield f"its picture has {size} bytes, more than {LARGEST_PICTURE}"
    for text in texts:
        if found := MACHINE.search(text):
            yield f"it names a path of a machine: {text[found.start() :][:60]!r}"
        if re.search(r"\b\w*Warning\b", text):
            yield "it shows a warning"


def main(arguments: Sequence[str] | None = None) -> None:
    """Execute notebooks; exit with 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="notebooks, without .ipynb; all by default")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args(arguments)
    known = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no notebook {', '.join(unknown)}; there are {', '.join(known)}")
    failed = False
    for name in options.names or known:
        started = time.monotonic()
        try:
            notebook = execute(known[name])
            found = list(problems(notebook))
        except CellExecutionError as error:
            notebook, found = None, [str(error)]
        print(f"{name}: {time.monotonic() - started:.0f} s", *found, sep="\n  ", flush=True)
        failed = failed or bool(found)
        if notebook is not None and not options.check:
            nbformat.write(notebook, known[name])
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
