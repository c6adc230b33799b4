import sys
import time

sys.path.insert(0, "/work/main")
from hypothesis import Phase, settings

import tests.simulation.test_devices as t


def test_try(machine):
    s = settings(
        t.BUDGET,
        max_examples=int(__import__("os").environ.get("N", "5")),
        phases=[Phase.generate, Phase.shrink],
    )
    t0 = time.time()
    try:
        t.run_state_machine_as_test(machine, settings=s)
    finally:
        print(time.time() - t0, machine.coverage)


machine = t.machine
