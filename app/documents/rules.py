"""Which rules this deployment merges by."""

from app.settings import Settings
from merge_rules.documents import shipped_registry
from merge_rules.registry import Registry, load_rules


def load_registry(settings: Settings) -> Registry:
    """The shipped rules and the app's own; raises RegistryError."""
    registry = shipped_registry()
    if settings.rules is not None:
        load_rules(registry, settings.rules)
    return registry
