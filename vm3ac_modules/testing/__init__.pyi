from vm3ac_modules.testing.assertions import CoveredInformation as CoveredInformation
from vm3ac_modules.testing.assertions import assert_valid_lower_bound as assert_valid_lower_bound
from vm3ac_modules.testing.assertions import covered_information as covered_information
from vm3ac_modules.testing.assertions import searched_games as searched_games
from vm3ac_modules.testing.coordinated import (
    coordinated_gaussian_games as coordinated_gaussian_games,
)
from vm3ac_modules.testing.coordinated import (
    coordinated_tabular_games as coordinated_tabular_games,
)
from vm3ac_modules.testing.coordinated import default_games as default_games
from vm3ac_modules.testing.devices import pretended_device as pretended_device
from vm3ac_modules.testing.games import correlated_guard_value as correlated_guard_value
from vm3ac_modules.testing.games import correlated_prey_value as correlated_prey_value
from vm3ac_modules.testing.games import guard_value as guard_value
from vm3ac_modules.testing.games import independent_guard_value as independent_guard_value
from vm3ac_modules.testing.games import independent_prey_value as independent_prey_value
from vm3ac_modules.testing.host_syncs import HostSyncs as HostSyncs
from vm3ac_modules.testing.host_syncs import count_host_syncs as count_host_syncs
from vm3ac_modules.testing.oracles import Game as Game
from vm3ac_modules.testing.oracles import LinearGaussianGame as LinearGaussianGame
from vm3ac_modules.testing.oracles import LinearPredictor as LinearPredictor
from vm3ac_modules.testing.plain_vm3ac import PlainVM3AC as PlainVM3AC
from vm3ac_modules.testing.sampled import sampled_bound as sampled_bound
from vm3ac_modules.testing.smac_stub import SMACStub as SMACStub
from vm3ac_modules.testing.smaclite_stub import SMACliteStub as SMACliteStub
from vm3ac_modules.testing.smacv2_stub import SMACv2Stub as SMACv2Stub
from vm3ac_modules.testing.strategies import conditional_tables as conditional_tables
from vm3ac_modules.testing.strategies import linear_gaussian_games as linear_gaussian_games
from vm3ac_modules.testing.strategies import linear_predictors as linear_predictors
from vm3ac_modules.testing.strategies import tabular_games as tabular_games
from vm3ac_modules.testing.strategies import tensor_batches as tensor_batches
from vm3ac_modules.testing.strategies import tensors as tensors
from vm3ac_modules.testing.tabular import TabularGame as TabularGame
from vm3ac_modules.testing.twins import pair_sum_loop as pair_sum_loop
from vm3ac_modules.testing.twins import soft_value_target_loop as soft_value_target_loop
from vm3ac_modules.testing.wrong_bounds import WRONG_BOUNDS as WRONG_BOUNDS
