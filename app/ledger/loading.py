"""Which event types this deployment knows: the shipped ones, and the app's own.

The module that SYNCLINE_RULES names registers merge rules by `register(registry)`, and event
types by `register_events(events)`.
"""

from app.ledger.event_type import EventTypeError, EventTypes
from app.ledger.shipped import shipped_event_types
from app.settings import Settings
from merge_rules.registry import LOADING_LIMIT_S, RegistryError, loaded_module
from merge_rules.verification.time_limit import TimeUp, time_limit


def load_event_types(settings: Settings) -> EventTypes:
    """To be called once the merge rules are loaded; raises RegistryError."""
    types = shipped_event_types()
    if settings.rules is None:
        return types
    register = getattr(loaded_module(settings.rules), "register_events", None)
    if register is None:
        return types
    try:
        with time_limit(LOADING_LIMIT_S):
            register(types)
    except EventTypeError as error:
        raise RegistryError(f"{settings.rules}: {error}") from error
    except TimeUp:
        raise RegistryError(
            f"{settings.rules}: register_events() did not finish within {LOADING_LIMIT_S:g} s"
        ) from None
    except (Exception, SystemExit) as error:
        raise RegistryError(
            f"{settings.rules}: register_events() failed with {type(error).__name__}: {error}"
        ) from error
    return types
