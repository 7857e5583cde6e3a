"""Links from names in docstrings to their pages, resolved without the network.

Three kinds of names: our own by the package that offers them, other libraries' by the table below,
and names that have no page, which stay plain text. Any other unknown name fails the build.
"""

import importlib
from functools import cache
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

OWN = "vm3ac_modules"
TORCH = "https://docs.pytorch.org/docs/stable/"
TENSORDICT = "https://docs.pytorch.org/tensordict/stable/reference/generated/"
TORCHRL = "https://docs.pytorch.org/rl/stable/reference/generated/"
NUMPY = "https://numpy.org/doc/stable/reference/"
PYTHON = "https://docs.python.org/3/library/"

# The name by which users import an object, and its page; a test imports every one.
PAGES = {
    "torch.Tensor": f"{TORCH}tensors.html#torch.Tensor",
    "torch.Size": f"{TORCH}size.html#torch.Size",
    "torch.device": f"{TORCH}tensor_attributes.html#torch.device",
    "torch.dtype": f"{TORCH}tensor_attributes.html#torch.dtype",
    "torch.Generator": f"{TORCH}generated/torch.Generator.html#torch.Generator",
    "torch.nn.Module": f"{TORCH}generated/torch.nn.Module.html#torch.nn.Module",
    "torch.nn.Parameter": f"{TORCH}generated/torch.nn.parameter.Parameter.html",
    "torch.optim.Optimizer": f"{TORCH}optim.html#torch.optim.Optimizer",
    "torch.distributions.OneHotCategorical": f"{TORCH}distributions.html#onehotcategorical",
    "numpy.ndarray": f"{NUMPY}generated/numpy.ndarray.html",
    "numpy.dtype": f"{NUMPY}generated/numpy.dtype.html",
    "numpy.float32": f"{NUMPY}arrays.scalars.html#numpy.float32",
    "numpy.float64": f"{NUMPY}arrays.scalars.html#numpy.float64",
    "numpy.int64": f"{NUMPY}arrays.scalars.html#numpy.int64",
    "numpy.typing.ArrayLike": f"{NUMPY}typing.html#numpy.typing.ArrayLike",
    "abc.ABC": f"{PYTHON}abc.html#abc.ABC",
    "collections.Counter": f"{PYTHON}collections.html#collections.Counter",
    "contextlib.AbstractContextManager": f"{PYTHON}contextlib.html",
    "pathlib.Path": f"{PYTHON}pathlib.html#pathlib.Path",
}
for _name in ("Callable", "Collection", "Iterable", "Iterator", "Mapping", "Sequence"):
    PAGES[f"collections.abc.{_name}"] = f"{PYTHON}collections.abc.html#collections.abc.{_name}"
for _name in (
    "TensorDict",
    "TensorDictBase",
    "nn.ProbabilisticTensorDictModule",
    "nn.ProbabilisticTensorDictSequential",
    "nn.TensorDictModuleBase",
    "nn.TensorDictSequential",
    "nn.dispatch",
):
    PAGES[f"tensordict.{_name}"] = f"{TENSORDICT}tensordict.{_name}.html"
for _name in (
    "data.Composite",
    "data.ReplayBuffer",
    "data.TensorSpec",
    "envs.EnvBase",
    "envs.TransformedEnv",
    "envs.VmasEnv",
    "modules.AdditiveGaussianModule",
    "modules.TanhNormal",
    "objectives.LossModule",
    "objectives.SoftUpdate",
):
    PAGES[f"torchrl.{_name}"] = f"{TORCHRL}torchrl.{_name}.html"
PAGES |= {
    "torchrl.envs.TensorDictPrimer": f"{TORCHRL}torchrl.envs.transforms.TensorDictPrimer.html",
    "torchrl.envs.Transform": f"{TORCHRL}torchrl.envs.transforms.Transform.html",
    "torchrl.modules.ProbabilisticActor": (
        f"{TORCHRL}torchrl.modules.tensordict_module.ProbabilisticActor.html"
    ),
}

# Names of other libraries that have no page of their own to lead to.
PLAIN = {
    "SimulatorError",
    "hypothesis.strategies.SearchStrategy",
    "tensordict.NestedKey",
    "torchrl.data.RandomSampler",
    "torchrl.envs.utils.MarlGroupMapType",
    "torchrl.objectives.ValueEstimators",
    "torchrl.objectives.utils.TargetNetUpdater",
    "vmas.simulator.core.Agent",
    "vmas.simulator.core.World",
}
# What annotations of other libraries call by the last name alone.
SHORT = {"Tensor": "torch.Tensor", "TensorDict": "tensordict.TensorDict", "Size": "torch.Size"}
SHORT |= {"TensorDictBase": "tensordict.TensorDictBase", "Array": ""}
SHORT |= dict.fromkeys(("DQNLoss", "DDPGLoss", "SACLoss", "REDQLoss", "TD3Loss"), "")


@cache
def imported(name: str) -> Any:
    """The object of a dotted name; None where there is none."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part, None)
        return found
    return None


def home(name: str) -> str:
    """The dotted name under which an object was defined."""
    found = imported(name)
    module, inner = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    return f"{module}.{inner}" if module and inner else name


@cache
def homes() -> dict[str, str]:
    """The pages by the names that signatures show: where the objects were defined."""
    return PAGES | {home(name): page for name, page in PAGES.items()}


def plain(name: str) -> bool:
    """Whether a name is written as text: prose, a private name, or one without a page."""
    if " " in name or any(part.startswith("_") for part in name.split(".")):
        return True
    return name in PLAIN or name in {home(other) for other in PLAIN} or SHORT.get(name) == ""


def own_name(objects: dict[str, Any], node: pending_xref) -> str | None:
    """The name under which the API pages have one of our own objects."""
    target = node["reftarget"]
    for start in (target, f"{node.get('py:module')}.{target}"):
        if start.startswith(OWN):
            prefix, _, last = start.rpartition(".")
            for name in (home(start), f"{home(prefix)}.{last}"):
                if name in objects:
                    return name
            inside = [n for n in objects if n.startswith(prefix) and n.endswith(f".{last}")]
            if len(inside) == 1:
                return inside[0]
    owner = f"{node.get('py:module')}.{node.get('py:class')}"
    for base in getattr(imported(owner), "__mro__", ()):
        if f"{base.__module__}.{base.__qualname__}.{target}" in objects:
            return f"{base.__module__}.{base.__qualname__}.{target}"
    same = [name for name in objects if name.endswith(f".{target}")]
    near = [n for n in same if n.startswith(str(node.get("py:module")).rpartition(".")[0])]
    return min(near or same, key=lambda name: (name.count("."), name), default=None)


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.Element
) -> nodes.Node | None:
    """Answer a reference of the Python domain that Sphinx did not find."""
    if node.get("refdomain") != "py":
        return None
    target = SHORT.get(node["reftarget"]) or node["reftarget"]
    domain = env.domains.python_domain
    for name in (target, target.rpartition(".")[0]):
        if page := homes().get(name):
            return nodes.reference("", "", text, internal=False, refuri=page)
    if name := own_name(domain.objects, node):
        found = domain.objects[name]
        uri = app.builder.get_relative_uri(node["refdoc"], found.docname)
        return nodes.reference("", "", text, internal=True, refuri=f"{uri}#{found.node_id}")
    inside = imported(f"{node.get('py:module')}.{target}") or imported(target)
    private = target.startswith(OWN) or str(getattr(inside, "__module__", "")).startswith(OWN)
    if plain(target) or (private and inside is not None):
        return text
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    """Resolve what the Python domain leaves open."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
