from vm3ac_modules.integrations.benchmarl.configs import (
    ALGORITHMS as ALGORITHMS,
)
from vm3ac_modules.integrations.benchmarl.configs import (
    MasacTwinConfig as MasacTwinConfig,
)
from vm3ac_modules.integrations.benchmarl.configs import (
    Vm3acConfig as Vm3acConfig,
)
from vm3ac_modules.integrations.benchmarl.configs import (
    Vm3acTightConfig as Vm3acTightConfig,
)
from vm3ac_modules.integrations.benchmarl.configs import (
    register as register,
)
