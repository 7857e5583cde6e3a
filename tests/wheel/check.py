"""Try the built wheel outside the checkout: alone, with each extra alone, and as a user would.

    python tests/wheel/check.py [--keep DIR] [NAME ...]

Builds wheel and sdist, installs the wheel's core once, and for every extra makes an environment
that sees the core and nothing else but what the extra brings. ``make test-wheel`` runs it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    *("frames=2000", "num_envs=16", "batch_size=32", "task.max_steps=20", "eval_episodes=4"),
    *("eval_every_frames=1000", "checkpoint_every_frames=1000", "hidden=[16,16]"),
    *("information_latents=8", "threads=1", "run_dir=run"),
]
VM3AC = ["-m", "vm3ac_modules.cli.main"]
ENV = (
    "import torch; from vm3ac_modules.envs import make_env; "
    "print(make_env('{}', 2, seed=0).rollout(3).shape)"
)
BATTLE = [
    *("battle", "map=3m", "frames=60", "num_envs=2", "batch_size=2", "start_episodes=2"),
    *("eval_episodes=2", "hidden_size=8", "+env.max_steps=6", "run_dir=battle", "draw=false"),
]
EXPORT = """
import vm3ac_modules as vm
from torchrl.data import Bounded
from vm3ac_modules.execution import DeployedAgent
from vm3ac_modules.execution.export.agents import export_agents
actor = vm.make_actor(4, 2, Bounded(-1.0, 1.0, (2, 1)))
policy = vm.make_policy(vm.LatentSampler(vm.GaussianPrior(2)), actor)
about = {"algorithm": "vm3ac", "task": "mine", "checkpoint": {"sha256": "", "frame": 0}}
paths = export_agents(policy, "agents", format="onnx", about=about)
print(DeployedAgent(paths[0], seed=0, trust=True).record["agent"])
"""
YAML = "integrations/benchmarl/conf/algorithm/vm3ac.yaml"
BOUND = (
    "from vm3ac_modules.testing import assert_valid_lower_bound; "
    "assert_valid_lower_bound(lambda game: game.mutual_information(0, 1) - 0.1)"
)
OWN = """
import torch
from torchrl.data import Bounded, Composite, Unbounded, Categorical
from torchrl.envs import EnvBase
from tensordict import TensorDict


class Meet(EnvBase):
    def __init__(self, num_envs, device, seed):
        super().__init__(device=device, batch_size=[num_envs])
        agents = {"observation": Unbounded((num_envs, 2, 3))}
        self.observation_spec = Composite(
            agents=Composite(agents, shape=(num_envs,)), shape=(num_envs,)
        )
        action = Composite(action=Bounded(-1.0, 1.0, (num_envs, 2, 1)), shape=(num_envs,))
        self.action_spec = Composite(agents=action, shape=(num_envs,))
        reward = Composite(reward=Unbounded((num_envs, 2, 1)), shape=(num_envs,))
        self.reward_spec = Composite(agents=reward, shape=(num_envs,))
        done = Categorical(2, (num_envs, 1), dtype=torch.bool)
        self.full_done_spec = Composite(
            done=done, terminated=done.clone(), truncated=done.clone(), shape=(num_envs,)
        )

    def _flags(self):
        off = torch.zeros(*self.batch_size, 1, dtype=torch.bool)
        return {"done": off, "terminated": off.clone(), "truncated": off.clone()}

    def _reset(self, td=None, **kwargs):
        shown = {"observation": torch.zeros(*self.batch_size, 2, 3)}
        return TensorDict({"agents": shown, **self._flags()}, self.batch_size)

    def _step(self, td):
        action = td["agents", "action"]
        agents = {"observation": torch.zeros(*self.batch_size, 2, 3), "reward": -action.square()}
        return TensorDict({"agents": agents, **self._flags()}, self.batch_size)

    def _set_seed(self, seed):
        return seed


def make(num_envs, device, seed):
    return Meet(num_envs, device, seed)
"""

# What each extra must be able to do when nothing else is there.
CHECKS: dict[str, list[list[str]]] = {
    "vmas": [["-c", ENV.format("predator_prey_2")], ["-c", ENV.format("vmas/balance")]],
    "pettingzoo": [["-c", ENV.format("multiwalker_2")]],
    "smax": [["-c", "from vm3ac_modules.envs import make_battle_env as m; m('3m', 2, seed=0)"]],
    "recipes": [
        [*VM3AC, "train", "task=python:own:make", *TINY],
        [*VM3AC, "evaluate", "run_dir=run", "trust=true", "episodes=2", "coordination_latents=8"],
        [*VM3AC, "train", "resume=true", "run_dir=run", "trust=true", "frames=3000"],
        [*VM3AC, "train", "-m", "task=python:own:make", *TINY, "lr=1e-3,1e-4"],
    ],
    "testing": [["-c", BOUND]],
    "reproduce": [["-c", "import rliable, pandas; import vm3ac_modules.evaluation.statistics"]],
    "export": [["-c", EXPORT]],
    "vmas,recipes": [
        [*VM3AC, "train", "algorithm=vm3ac", "task=predator_prey_2", *TINY],
        [*VM3AC, "evaluate", "run_dir=run", "episodes=2", "coordination_latents=8"],
        [*VM3AC, "train", "resume=true", "run_dir=run", "frames=3000"],
        [*VM3AC, "export", "run_dir=run"],
    ],
    "smax,recipes": [[*VM3AC, *BATTLE]],
}
CORE = [
    ["-c", "import vm3ac_modules as vm; vm.VM3ACLoss, vm.LatentSampler, vm.make_env"],
    ["-m", "vm3ac_modules.doctor"],
    ["-m", "vm3ac_modules.cli.main", "--version"],
    ["-m", "vm3ac_modules.cli.main", "--help"],
]


def run(python: Path, arguments: list[str], place: Path) -> None:
    """Run one check; its output is shown if it fails."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    env |= {"PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(python), *arguments], cwd=place, env=env, capture_output=True, text=True
    )
    said = " ".join(arguments)[:90].replace("\n", " ")
    print(f"  {'ok' if done.returncode == 0 else 'FAILED'}  {said}", flush=True)
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-4000:], sep="\n")
        raise SystemExit(1)


def pip(python: Path, *arguments: str) -> None:
    """Install quietly, with the tested set of versions."""
    quiet = ["--quiet", "--disable-pip-version-check"]
    command = [str(python), "-m", "pip", "install", *quiet, "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*command, *arguments], check=True)


def environment(place: Path) -> Path:
    """An empty environment; its python."""
    venv.create(place, with_pip=True, symlinks=True)
    return place / "bin" / "python"


def contents(wheel: Path, sdist: Path) -> None:
    """What a wheel must and must not hold, and what an sdist must."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    ours = {"vm3ac_modules", "hydra_plugins"}
    assert all(top in ours or top.endswith(".dist-info") for top in tops), tops
    for needed in ("py.typed", "__init__.pyi", "functional/normal_icdf.f64", "cli/main.py", YAML):
        assert f"vm3ac_modules/{needed}" in names, needed
    with tarfile.open(sdist) as file:
        files = {name.split("/", 1)[-1] for name in file.getnames()}
    needed = {"conftest.py", "CITATION.cff", "Makefile", "LICENSE", "README.md"}
    needed |= {"constraints.txt", "constraints-hashed.txt"}
    needed |= {"constraints-benchmarl.txt"}
    assert not needed - files, needed - files
    assert not any(name.startswith(("runs/", ".venv/")) for name in files)


def main() -> None:
    """Build, install, try."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="extras to try; all by default")
    parser.add_argument("--keep", type=Path, help="where to work, kept afterwards")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = args.keep or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-d", str(work / "dist")],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        [wheel] = (work / "dist").glob("*.whl")
        [sdist] = (work / "dist").glob("*.tar.gz")
        contents(wheel, sdist)
        core = environment(work / "core")
        # Two steps: with torch in place pip does not look for another one.
        pip(core, "torch")
        pip(core, str(wheel))
        print("core", flush=True)
        place = work / "place"
        place.mkdir(exist_ok=True)
        (place / "own.py").write_text(OWN)
        for check in CORE:
            run(core, check, place)
        packages = next((work / "core" / "lib").glob("python*/site-packages"))
        for extra, checks in CHECKS.items():
            if args.names and extra not in args.names:
                continue
            print(extra, flush=True)
            name = extra.replace(",", "_")
            python = environment(work / name)
            own = next((work / name / "lib").glob("python*/site-packages"))
            (own / "core.pth").write_text(f"{packages}\n")
            pip(python, f"{wheel}[{extra}]")
            place = work / f"place_{name}"
            place.mkdir(exist_ok=True)
            (place / "own.py").write_text(OWN)
            for check in checks:
                run(python, check, place)


if __name__ == "__main__":
    main()
