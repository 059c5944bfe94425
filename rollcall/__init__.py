"""Read what `rollcall process` has written, in Python.

import rollcall

run = rollcall.read("out/archive")
run.persons()
run.plot_timeline("clip.mp4")
"""

from pipeline.errors import MachineError, PassingError, UserError
from rollcall.output import Output, read

__all__ = ["MachineError", "Output", "PassingError", "UserError", "read"]
