"""Which rules this deployment merges by, and what it merged by before."""

from app.clock import Clock
from app.database.engine import Database
from app.documents import store
from app.ledger.profile import SERVER_RULES
from app.settings import Settings
from merge_rules.adoption import refused_changes
from merge_rules.documents import shipped_registry
from merge_rules.registry import Registry, RegistryError, load_rules

DEFAULT = "*"
"""The pattern under which the default rule is remembered."""


def load_registry(settings: Settings) -> Registry:
    """The shipped rules and the app's own; raises RegistryError."""
    registry = shipped_registry()
    if settings.rules is not None:
        load_rules(registry, settings.rules)
    for key, rule in SERVER_RULES.items():
        if key in registry.registered():
            raise RegistryError(f"{key!r} is a document of the service's own; take it out")
        registry.register(key, rule)
    return registry


async def remember_rules(database: Database, registry: Registry, clock: Clock) -> None:
    """Learns the rules of the past and keeps the present ones for the future.

    Raises RegistryError if stored documents cannot become what a changed rule takes.
    """
    async with database.connection() as connection:
        former = await store.read_rules(connection)
        for _, fingerprint, definition in former:
            registry.remember(fingerprint, definition)
        present = {DEFAULT: registry.default, **registry.registered()}
        for pattern, fingerprint, _ in former:
            old, new = registry.made_by(fingerprint), present.get(pattern)
            if old is None or new is None:
                continue
            refused = refused_changes(old, new)
            if refused and await store.has_documents_of(connection, fingerprint):
                raise RegistryError(_cannot_change(pattern, refused))
        known = {(pattern, fingerprint) for pattern, fingerprint, _ in former}
        new_rows = [
            (pattern, rule.fingerprint, rule.describe())
            for pattern, rule in present.items()
            if (pattern, rule.fingerprint) not in known
        ]
        if new_rows:
            await store.write_rules(connection, new_rows, clock())


def _cannot_change(pattern: str, refused: list[str]) -> str:
    return (
        f"{pattern!r}: {'; '.join(refused)}. Documents are stored under the earlier rule and "
        "cannot become that: keep the rule, or register the new one under another key or field."
    )
