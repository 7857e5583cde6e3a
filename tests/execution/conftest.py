"""Files of the agents of a small team."""

from __future__ import annotations

import pytest
from contracts.teams import ABOUT, gaussian_team

from vm3ac_modules.execution.export.agents import export_agents


@pytest.fixture(scope="session")
def onnx_files(tmp_path_factory):
    """ONNX files of a team with synchronized latents."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("onnx_agents")
    return export_agents(gaussian_team(), folder, format="onnx", about=ABOUT)


@pytest.fixture(scope="session")
def torch_files(tmp_path_factory):
    """Programs of the same team."""
    return export_agents(gaussian_team(), tmp_path_factory.mktemp("agents"), about=ABOUT)
