"""The console program ``vm3ac``."""

import os

# Before torch is loaded: threads that wait for the others shall sleep, not spin. Spinning, two
# programs on two cores slow each other five- to tenfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
