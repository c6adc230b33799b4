"""Which rule merges which document: by key, or by pattern."""

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from merge_rules.collection import MapOf, RemovableMapOf
from merge_rules.definition import rule_from
from merge_rules.epoch import Resettable
from merge_rules.record import Record
from merge_rules.register import last_write_wins
from merge_rules.rule import Rule
from merge_rules.verification.time_limit import TimeUp, time_limit
from merge_rules.verification.trial import first_nameless, try_rule

LOADING_LIMIT_S = 30.0
RULE_NAMES = (
    *("best", "causal_set", "counter", "days", "flag", "last_write_wins", "map_of", "maximum"),
    *("minimum", "record", "resettable", "samples", "strict", "union"),
)
_PATTERN = re.compile(r"[A-Za-z0-9._:~*-]{1,128}")


class RegistryError(Exception):
    """A registration that cannot stand; the text names the key or file and the remedy."""


class Registry:
    """Rules by key or pattern. A key beats every pattern, a longer pattern a shorter one."""

    def __init__(self, default: Rule = last_write_wins) -> None:
        self.default = default
        self.refuses_unsafe = True
        """Whether a rule that breaks a law is refused, unless registered as unsafe."""
        self._exact: dict[str, Rule] = {}
        self._patterns: list[tuple[str, re.Pattern[str], Rule]] = []
        self._shipped: set[str] = set()
        self._former: dict[str, Rule | None] = {}

    def register(self, pattern: str, rule: Rule, *, unsafe: bool = False) -> None:
        """Names the rule of a key, or of all keys that a pattern such as `lesson:*` matches.

        A rule that ships with Syncline may be replaced once; anything else registered twice
        is a RegistryError. So is a rule of the app's own that breaks a law in a short trial,
        unless it is `unsafe`: then it serves, and may lose or disorder what devices write.
        """
        if not isinstance(rule, Rule):
            raise RegistryError(f"{pattern!r}: {rule!r} is not a rule, such as maximum or record()")
        if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern):
            raise RegistryError(f"{pattern!r} can match no key: keys are [A-Za-z0-9._:~-]{{1,128}}")
        if pattern in self.registered() and pattern not in self._shipped:
            raise RegistryError(f"{pattern!r} is registered twice; keep one of the two")
        self._try(pattern, rule, unsafe)
        if pattern in self._shipped:
            self._shipped.discard(pattern)
            self._patterns = [entry for entry in self._patterns if entry[0] != pattern]
        if "*" not in pattern:
            self._exact[pattern] = rule
            return
        expression = re.compile(".*".join(map(re.escape, pattern.split("*"))))
        self._patterns.append((pattern, expression, rule))
        self._patterns.sort(key=lambda entry: (-len(entry[0]), entry[0]))

    def _try(self, pattern: str, rule: Rule, unsafe: bool) -> None:
        if rule.built_in or not self.refuses_unsafe:
            return
        nameless = first_nameless(rule)
        if nameless is not None:
            raise RegistryError(f"{pattern!r}: {nameless}")
        found = None if unsafe else try_rule(rule)
        if found is not None:
            raise RegistryError(
                f"{pattern!r}: {found}\nCorrect the rule; or, to serve with it all the same,"
                f" register it by register({pattern!r}, …, unsafe=True)"
            )

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

    def own_rules(self) -> dict[str, Rule]:
        """Every rule that is registered or part of one, by its definition."""
        return {
            part.describe(): part
            for rule in (*self.registered().values(), self.default)
            for part in _parts(rule)
        }

    def remember(self, fingerprint: str, definition: str) -> None:
        """A rule that merged documents before, in the words of its definition."""
        if self._former.get(fingerprint) is None:
            self._former[fingerprint] = rule_from(definition, self.own_rules())

    def knows(self, fingerprint: str) -> bool:
        """Whether a rule of that fingerprint was remembered, even if it cannot be made again."""
        if not self._former:
            self._former = {rule.fingerprint: rule for rule in self.own_rules().values()}
        return fingerprint in self._former

    def made_by(self, fingerprint: str) -> Rule | None:
        """The rule that made a stored state; None if it cannot be made again."""
        return self._former.get(fingerprint) if self.knows(fingerprint) else None


def _parts(rule: Rule) -> Iterator[Rule]:
    """The rule and every rule inside it."""
    yield rule
    inside = [*rule.fields.values(), rule.default] if isinstance(rule, Record) else []
    if isinstance(rule, (MapOf, RemovableMapOf, Resettable)):
        inside.append(rule.rule)
    for part in inside:
        yield from _parts(part)


def load_rules(registry: Registry, name: str) -> None:
    """Lets an app's module register its rules: it must define `register(registry)`.

    `name` is a module's dotted name, or the path of a Python file. Raises RegistryError that
    names the file, what is wrong in it, and the remedy.
    """
    try:
        with time_limit(LOADING_LIMIT_S):
            _register(registry, name)
    except TimeUp:
        raise RegistryError(
            f"{name} did not finish within {LOADING_LIMIT_S:g} s: it loops or waits while it is"
            " imported or registers; correct it there"
        ) from None


def loaded_module(name: str) -> ModuleType:
    """The module that `load_rules` has imported, for what else it registers."""
    return sys.modules[_module_name(name)]


def _module_name(name: str) -> str:
    return f"syncline_rules_{Path(name).stem}" if name.endswith(".py") else name


def _register(registry: Registry, name: str) -> None:
    module = _import(name)
    register = getattr(module, "register", None)
    if register is None and callable(getattr(module, "register_events", None)):
        return
    if not callable(register):
        raise RegistryError(f"{name} defines no function register(registry); see the guide")
    try:
        register(registry)
    except RegistryError as error:
        raise RegistryError(f"{name}: {error}") from error
    except (Exception, SystemExit) as error:
        _fail(name, f": register() failed with {type(error).__name__}: {error}", error)


def _import(name: str) -> ModuleType:
    if not name.endswith(".py"):
        try:
            return importlib.import_module(name)
        except (Exception, SystemExit) as error:
            _fail(name, f" cannot be imported: {type(error).__name__}: {error}", error)
    path = Path(name).expanduser().absolute()
    if not path.is_file():
        raise RegistryError(f"{path} is not a file; SYNCLINE_RULES names a module or a file")
    try:
        spec = importlib.util.spec_from_file_location(_module_name(name), path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        _fail(name, f" cannot be imported: {type(error).__name__}: {error}", error)
    return module


def _fail(name: str, what: str, error: BaseException) -> NoReturn:
    """Raises RegistryError: the file, the line in it, what happened, and the remedy."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(Path(name).expanduser().absolute())
    ]
    where = f"{name}, line {lines[-1]}" if lines else name
    missing = isinstance(error, ModuleNotFoundError) and name.startswith(error.name or "")
    if isinstance(error, NameError) or "'merge_rules'" in str(error):
        remedy = f"the rules are {', '.join(RULE_NAMES)}"
    elif missing or name == "" or name.startswith("."):
        remedy = "SYNCLINE_RULES names a module on Python's path, or a file that ends in .py"
    else:
        remedy = "correct it there"
    raise RegistryError(f"{where}{what}; {remedy}") from error
