"""The name under which 0.1 had what a workload's file imports. Now it is `decoupled` itself; this goes with 0.4."""

from decoupled import *  # noqa: F403
from decoupled import __all__ as __all__
