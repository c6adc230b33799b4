"""Whether what runs was compiled to C, or is plain Python: both behave alike."""

from merge_rules import rule


def is_compiled() -> bool:
    """The modules that are compiled at all are compiled together, so one tells of all."""
    return not rule.__file__.endswith(".py")
