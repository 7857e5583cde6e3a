from vm3ac_modules.envs.battles.factory import lost_episodes as lost_episodes
from vm3ac_modules.envs.battles.factory import make_battle_env as make_battle_env
from vm3ac_modules.envs.battles.factory import time_limit as time_limit
from vm3ac_modules.envs.battles.smac import SMACEnv as SMACEnv
from vm3ac_modules.envs.battles.smac import make_smac_env as make_smac_env
from vm3ac_modules.envs.battles.smaclite import SMACliteEnv as SMACliteEnv
from vm3ac_modules.envs.battles.smax import SMAXEnv as SMAXEnv
from vm3ac_modules.envs.battles.units import BattleUnits as BattleUnits
from vm3ac_modules.envs.checks import check_homogeneous_continuous as check_homogeneous_continuous
from vm3ac_modules.envs.episode_latent import EpisodeLatent as EpisodeLatent
from vm3ac_modules.envs.guard import GuardEnv as GuardEnv
from vm3ac_modules.envs.matrix import MATRIX_GAMES as MATRIX_GAMES
from vm3ac_modules.envs.matrix import MatrixGame as MatrixGame
from vm3ac_modules.envs.matrix import MatrixGameEnv as MatrixGameEnv
from vm3ac_modules.envs.meeting import MeetingEnv as MeetingEnv
from vm3ac_modules.envs.pettingzoo.adapter import BatchedPettingZooEnv as BatchedPettingZooEnv
from vm3ac_modules.envs.pettingzoo.multiwalker import MultiwalkerEnv as MultiwalkerEnv
from vm3ac_modules.envs.rng import env_rng_state as env_rng_state
from vm3ac_modules.envs.rng import set_env_rng_state as set_env_rng_state
from vm3ac_modules.envs.tasks import Task as Task
from vm3ac_modules.envs.tasks import available_environments as available_environments
from vm3ac_modules.envs.tasks import battle_task as battle_task
from vm3ac_modules.envs.tasks import find_task as find_task
from vm3ac_modules.envs.tasks import make_env as make_env
from vm3ac_modules.envs.transforms import AgentIndex as AgentIndex
from vm3ac_modules.envs.transforms import EpisodeCounter as EpisodeCounter
from vm3ac_modules.envs.transforms import ExpandDone as ExpandDone
from vm3ac_modules.envs.vmas.env import VMASEnv as VMASEnv
from vm3ac_modules.envs.vmas.scenarios.cooperative_navigation import (
    CooperativeNavigation as CooperativeNavigation,
)
from vm3ac_modules.envs.vmas.scenarios.predator_prey import PredatorPrey as PredatorPrey
from vm3ac_modules.envs.vmas.scenarios.treasure_collection import (
    TreasureCollection as TreasureCollection,
)
