"""Which rule merges which document: by key, or by pattern."""

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

from merge_rules.register import last_write_wins
from merge_rules.rule import Rule

_PATTERN = re.compile(r"[A-Za-z0-9._:~*-]{1,128}")


class RegistryError(Exception):
    """A registration that cannot stand; the text names the key or file and the remedy."""


class Registry:
    """Rules by key or pattern. A key beats every pattern, a longer pattern a shorter one."""

    def __init__(self, default: Rule = last_write_wins) -> None:
        self.default = default
        self._exact: dict[str, Rule] = {}
        self._patterns: list[tuple[str, re.Pattern[str], Rule]] = []
        self._shipped: set[str] = set()

    def register(self, pattern: str, rule: Rule) -> None:
        """Names the rule of a key, or of all keys that a pattern such as `lesson:*` matches.

        A rule that ships with Syncline may be replaced once; anything else registered twice
        is a RegistryError.
        """
        if not isinstance(rule, Rule):
            raise RegistryError(f"{pattern!r}: {rule!r} is not a rule, such as maximum or record()")
        if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern):
            raise RegistryError(f"{pattern!r} can match no key: keys are [A-Za-z0-9._:~-]{{1,128}}")
        if pattern in self.registered():
            if pattern not in self._shipped:
                raise RegistryError(f"{pattern!r} is registered twice; keep one of the two")
            self._shipped.discard(pattern)
            self._patterns = [entry for entry in self._patterns if entry[0] != pattern]
        if "*" not in pattern:
            self._exact[pattern] = rule
            return
        expression = re.compile(".*".join(map(re.escape, pattern.split("*"))))
        self._patterns.append((pattern, expression, rule))
        self._patterns.sort(key=lambda entry: (-len(entry[0]), entry[0]))

    def seal_shipped(self) -> None:
        """What is registered until now ships with Syncline, and may be replaced."""
        self._shipped = set(self.registered())

    def rule_for(self, key: str) -> Rule:
        """The rule of a document's key; the default if none was registered."""
        rule = self._exact.get(key)
        if rule is not None:
            return rule
        for _, expression, rule in self._patterns:
            if expression.fullmatch(key):
                return rule
        return self.default

    def registered(self) -> dict[str, Rule]:
        """Every key and pattern with its rule, keys first."""
        patterns = {pattern: rule for pattern, _, rule in self._patterns}
        return {**dict(sorted(self._exact.items())), **patterns}


def load_rules(registry: Registry, name: str) -> None:
    """Lets an app's module register its rules: it must define `register(registry)`.

    `name` is a module's dotted name, or the path of a Python file. Raises RegistryError that
    names the file, what is wrong in it, and the remedy.
    """
    module = _import(name)
    register = getattr(module, "register", None)
    if not callable(register):
        raise RegistryError(f"{name} defines no function register(registry); see the guide")
    try:
        register(registry)
    except RegistryError as error:
        raise RegistryError(f"{name}: {error}") from error
    except Exception as error:
        raise RegistryError(
            f"{name}: register() failed with {type(error).__name__}: {error}; correct it there"
        ) from error


def _import(name: str) -> ModuleType:
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        path = Path(name).expanduser().absolute()
        spec = importlib.util.spec_from_file_location(f"syncline_rules_{path.stem}", path)
        if spec is None or spec.loader is None or not path.is_file():
            raise RegistryError(f"{path} is not a file; SYNCLINE_RULES names a module or a file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    except RegistryError:
        raise
    except Exception as error:
        raise RegistryError(
            f"{name} cannot be imported: {type(error).__name__}: {error}; SYNCLINE_RULES names"
            " a module on Python's path, or a file that ends in .py"
        ) from error
