"""What `merge_rules` refuses, as a problem of the wire."""

from app.errors import Code, SynclineError
from merge_rules.refusal import (
    DeviceRequired,
    NotCanonical,
    NotJson,
    OperationRefused,
    Refusal,
    WrongType,
    pointer,
)


def refused(refusal: Refusal) -> SynclineError:
    """A refusal of `merge_rules` as a problem that names the path at fault."""
    codes: dict[type[Refusal], Code] = {
        NotJson: Code.MALFORMED_JSON,
        NotCanonical: Code.INVALID_VALUE,
        WrongType: Code.WRONG_TYPE,
        DeviceRequired: Code.DEVICE_REQUIRED,
        OperationRefused: Code.INVALID_OPERATION,
    }
    # A rule of an app's own may raise a refusal of its own kind.
    known = [codes[kind] for kind in type(refusal).__mro__ if kind in codes]
    code = known[0] if known else Code.RULE_FAILED
    return SynclineError(code, f"{refusal}.", path=pointer(refusal.path))
