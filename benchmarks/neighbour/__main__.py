"""How much one tenant's load delays another's warm requests: `python -m benchmarks.neighbour`.

One tenant holds 2,500 streams that wait for a model without room, and sends prompts of 8 MB and
100 kB without pause; another one streams from a warm model and asks it short questions. Windows
with and without the load alternate; in the control as much load goes to a server that only reads.
Writes `benchmarks/out/neighbour.json` and a picture.
"""

import argparse
import asyncio

from benchmarks.neighbour import report
from benchmarks.neighbour.scene import open_scene
from benchmarks.neighbour.windows import Measured, Plan, measure


async def run(plan: Plan) -> Measured:
    async with open_scene() as scene:
        return await measure(scene, plan)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbour")
    parser.add_argument("--cycles", type=int, default=3)
    parser.add_argument("--window", type=float, default=20.0, help="seconds of each window")
    parser.add_argument("--streams", type=int, default=2_500)
    options = parser.parse_args()
    plan = Plan(options.cycles, options.window, options.streams)
    report.write(asyncio.run(run(plan)), plan)


if __name__ == "__main__":
    main()
