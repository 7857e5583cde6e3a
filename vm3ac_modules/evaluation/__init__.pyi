from vm3ac_modules.evaluation.battles import battle_gif as battle_gif
from vm3ac_modules.evaluation.battles import unit_trace as unit_trace
from vm3ac_modules.evaluation.comparison import bars_figure as bars_figure
from vm3ac_modules.evaluation.comparison import comparison_figure as comparison_figure
from vm3ac_modules.evaluation.comparison import positions_figure as positions_figure
from vm3ac_modules.evaluation.comparison import write_comparison as write_comparison
from vm3ac_modules.evaluation.comparison import write_curves as write_curves
from vm3ac_modules.evaluation.coordination.estimates import (
    categorical_coordination as categorical_coordination,
)
from vm3ac_modules.evaluation.coordination.estimates import (
    gaussian_coordination as gaussian_coordination,
)
from vm3ac_modules.evaluation.coordination.measure import (
    measure_coordination as measure_coordination,
)
from vm3ac_modules.evaluation.coordination.report import coordination_table as coordination_table
from vm3ac_modules.evaluation.coordination.report import evaluation_figure as evaluation_figure
from vm3ac_modules.evaluation.coordination.result import Coordination as Coordination
from vm3ac_modules.evaluation.curves import AggregatedCurve as AggregatedCurve
from vm3ac_modules.evaluation.curves import aggregate_curves as aggregate_curves
from vm3ac_modules.evaluation.figures import learning_curve as learning_curve
from vm3ac_modules.evaluation.film import Area as Area
from vm3ac_modules.evaluation.film import rollout_gif as rollout_gif
from vm3ac_modules.evaluation.film import write_film as write_film
from vm3ac_modules.evaluation.games import evaluate_guard as evaluate_guard
from vm3ac_modules.evaluation.games import guard_actions as guard_actions
from vm3ac_modules.evaluation.joint_actions import joint_actions_figure as joint_actions_figure
from vm3ac_modules.evaluation.played import decidedness as decidedness
from vm3ac_modules.evaluation.protocol import EvaluationResult as EvaluationResult
from vm3ac_modules.evaluation.protocol import evaluate as evaluate
from vm3ac_modules.evaluation.statistics import Estimate as Estimate
from vm3ac_modules.evaluation.statistics import Improvement as Improvement
from vm3ac_modules.evaluation.statistics import ReturnSummary as ReturnSummary
from vm3ac_modules.evaluation.statistics import intervals_of_means as intervals_of_means
from vm3ac_modules.evaluation.statistics import (
    probability_of_improvement as probability_of_improvement,
)
from vm3ac_modules.evaluation.statistics import summarize_returns as summarize_returns
