"""How fast the engine is on this machine's processors: `python -m benchmarks.engine [rounds]`.

The demo's model in bfloat16. Each round takes one sample of every figure, so that whatever else the
machine does falls on all of them alike; the summary has the medians. On a busy machine there are
fewer rounds, so that it ends within minutes. Writes `benchmarks/out/engine.json` and `engine.svg`.
"""

import os
import sys

from services.worker.agent.processes.launcher import SHORT_SPIN

if __name__ == "__main__":
    os.environ.update(SHORT_SPIN)  # as worker processes have it; read when torch is imported
    os.environ["KINETO_LOG_LEVEL"] = "5"  # or the profiler talks

    from benchmarks.engine.suite import main

    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
