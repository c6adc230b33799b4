"""How long the machine looks for a bug."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.database import DirectoryBasedExampleDatabase

EXAMPLES = Path(".hypothesis") / "simulation"
"""Where the nightly run keeps the examples that failed, to try them first the next time."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Runs of the machine and steps in each, on the model and on the real service."""

    model: int
    model_steps: int
    service: int
    service_steps: int
    nightly: bool = False

    def on_model(self, **more: Any) -> settings:
        return self._settings(self.model, self.model_steps, **more)

    def on_service(self, **more: Any) -> settings:
        return self._settings(self.service, self.service_steps, **more)

    def _settings(self, examples: int, steps: int, **more: Any) -> settings:
        chosen: dict[str, Any] = {
            "max_examples": examples,
            "stateful_step_count": steps,
            # A step may be a round trip to a real database; a slow machine is not a failure.
            "deadline": None,
            "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
            "phases": (Phase.reuse, Phase.generate, Phase.shrink),
            "report_multiple_bugs": False,
            "print_blob": True,
            "derandomize": False,
            "database": DirectoryBasedExampleDatabase(EXAMPLES) if self.nightly else None,
        }
        return settings(**chosen | more)


BUDGETS = {
    "pr": Budget(2_000, 40, 100, 30),
    "nightly": Budget(100_000, 60, 2_000, 30, nightly=True),
}


def chosen_budget() -> Budget:
    """As SIMULATION_BUDGET says: `pr`, unless it is `nightly`."""
    return BUDGETS[os.environ.get("SIMULATION_BUDGET", "pr")]
