"""What a process can say of itself, cheaply, at the moment a run is created: code state, machine, launch.

Each part is read by a function without arguments into a record; `encode` makes tags of a record, `seal` makes them fit
to be stored. `read_packages` and `read_host` say more, as files of the run. Nothing here writes, imports a heavy
package, or takes longer than its limit.
"""

from mlflow_dovetail.context.git_state import GitState, read_git_state
from mlflow_dovetail.context.host import read_host
from mlflow_dovetail.context.launch import Launch, read_launch
from mlflow_dovetail.context.machine import Machine, read_machine
from mlflow_dovetail.context.packages import read_packages
from mlflow_dovetail.context.tags import PARTS, encode, seal

__all__ = [
    "PARTS",
    "GitState",
    "Launch",
    "Machine",
    "encode",
    "read_git_state",
    "read_host",
    "read_launch",
    "read_machine",
    "read_packages",
    "seal",
]
