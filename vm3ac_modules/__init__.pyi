from vm3ac_modules.envs import make_env as make_env
from vm3ac_modules.keys import Keys as Keys
from vm3ac_modules.modules.actors import make_actor as make_actor
from vm3ac_modules.modules.actors import make_categorical_actor as make_categorical_actor
from vm3ac_modules.modules.actors import make_deterministic_actor as make_deterministic_actor
from vm3ac_modules.modules.actors import make_policy as make_policy
from vm3ac_modules.modules.categorical_predictor import CategoricalPredictor as CategoricalPredictor
from vm3ac_modules.modules.critics import make_action_value as make_action_value
from vm3ac_modules.modules.critics import make_state_value as make_state_value
from vm3ac_modules.modules.latent import CategoricalPrior as CategoricalPrior
from vm3ac_modules.modules.latent import GaussianPrior as GaussianPrior
from vm3ac_modules.modules.latent import LatentSampler as LatentSampler
from vm3ac_modules.modules.latent import UniformPrior as UniformPrior
from vm3ac_modules.modules.latent import latent_at as latent_at
from vm3ac_modules.modules.latent_policy import LatentPolicy as LatentPolicy
from vm3ac_modules.modules.latent_policy import StoredLatent as StoredLatent
from vm3ac_modules.modules.predictor import VariationalPredictor as VariationalPredictor
from vm3ac_modules.objectives import CentralizedActorCriticLoss as CentralizedActorCriticLoss
from vm3ac_modules.objectives import MAACLoss as MAACLoss
from vm3ac_modules.objectives import MASACLoss as MASACLoss
from vm3ac_modules.objectives import MutualInformationLoss as MutualInformationLoss
from vm3ac_modules.objectives import MutualInformationReward as MutualInformationReward
from vm3ac_modules.objectives import VM3ACLoss as VM3ACLoss
from vm3ac_modules.objectives import check_host as check_host

__version__: str
