"""Which rule merges which document, and what an app's author reads when it cannot be said."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import merge_rules
from merge_rules import (
    Registry,
    RegistryError,
    Rule,
    State,
    best,
    causal_set,
    counter,
    flag,
    last_write_wins,
    load_rules,
    map_of,
    maximum,
    minimum,
    record,
    resettable,
    strict,
    union,
)
from merge_rules.definition import rule_from
from merge_rules.documents import shipped_registry
from merge_rules.register import LastWriteWins
from merge_rules.registry import RULE_NAMES
from merge_rules.scalar import Maximum


def test_a_key_beats_every_pattern_and_a_longer_pattern_a_shorter_one() -> None:
    """Whatever the order of registration, the most specific rule must merge."""
    entries: list[tuple[str, Rule]] = [
        ("*", maximum),
        ("lesson:*", minimum),
        ("lesson:intro:*", flag),
        ("lesson:intro:1", counter),
        ("*:draft", union),
    ]
    for order in (entries, entries[::-1]):
        registry = Registry()
        for pattern, rule in order:
            registry.register(pattern, rule)
        assert registry.rule_for("anything") is maximum
        assert registry.rule_for("lesson:2") is minimum
        assert registry.rule_for("lesson:") is minimum
        assert registry.rule_for("lesson:intro:2") is flag
        assert registry.rule_for("lesson:intro:1") is counter
        assert registry.rule_for("my:draft") is union
        assert registry.rule_for("lesson:draft") is minimum
        names = ["lesson:intro:1", "lesson:intro:*", "lesson:*", "*:draft", "*"]
        assert [*registry.registered()] == names


def test_patterns_of_one_length_are_tried_in_one_order() -> None:
    """Two workers that load rules in another order must still merge alike."""
    for patterns in (["a:*", "*:b"], ["*:b", "a:*"]):
        registry = Registry()
        for pattern in patterns:
            registry.register(pattern, {"a:*": maximum, "*:b": minimum}[pattern])
        assert registry.rule_for("a:b") is minimum


def test_a_pattern_matches_the_whole_key_and_means_only_its_stars() -> None:
    """A dot is a dot: `a.b*` must not merge the document `axb`."""
    registry = Registry()
    registry.register("a.b*", maximum)
    assert registry.rule_for("a.b1") is maximum
    assert registry.rule_for("axb1") is last_write_wins
    assert registry.rule_for("za.b1") is last_write_wins


def test_an_unknown_key_has_the_default() -> None:
    """A document that nobody named is kept whole by its last writer, unless the app says so."""
    assert Registry().rule_for("x") is last_write_wins
    assert Registry(default=strict).rule_for("x") is strict


@pytest.mark.parametrize("pattern", ["x", "x:*"])
def test_registering_twice_is_refused(pattern: str) -> None:
    """Two rules for one document would depend on the order of lines."""
    registry = Registry()
    registry.register(pattern, maximum)
    with pytest.raises(RegistryError, match="registered twice; keep one") as caught:
        registry.register(pattern, minimum)
    assert pattern in str(caught.value)
    assert registry.registered() == {pattern: maximum}


@pytest.mark.parametrize("pattern", ["game_stats", "lesson:*"])
def test_a_shipped_rule_may_be_replaced_once(pattern: str) -> None:
    """An app may want its own game_stats, but not two of its own."""
    registry = shipped_registry()
    registry.register(pattern, strict)
    assert registry.rule_for(pattern.replace("*", "7")) is strict
    assert [*registry.registered()].count(pattern) == 1
    with pytest.raises(RegistryError, match="twice"):
        registry.register(pattern, maximum)
    assert registry.rule_for(pattern.replace("*", "7")) is strict


@pytest.mark.parametrize("pattern", ["", "a b", "a/b", "ä", "a" * 129, "a\n", 5, None, b"x"])
def test_a_pattern_that_matches_no_key_is_refused(pattern: object) -> None:
    """A typing error here would silently leave a document without its rule."""
    with pytest.raises(RegistryError, match="can match no key"):
        Registry().register(pattern, maximum)  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", [record, "maximum", None, type(maximum)])
def test_what_is_no_rule_is_refused(rule: object) -> None:
    """`record` without its brackets is the likeliest slip, and would fail at the first merge."""
    with pytest.raises(RegistryError, match=r"'x': .* is not a rule, such as"):
        Registry().register("x", rule)  # type: ignore[arg-type]


# Loading ----------------------------------------------------------------------------------

GOOD = """
from dataclasses import dataclass
from merge_rules import maximum

@dataclass
class Anything:
    x: int

def register(registry):
    registry.register("mine", maximum)
"""


def test_rules_load_from_a_file(tmp_path: Path) -> None:
    """An app gives a path; the file needs no package around it and may define classes."""
    file = tmp_path / "my_rules.py"
    file.write_text(GOOD)
    registry = shipped_registry()
    load_rules(registry, str(file))
    assert registry.rule_for("mine") is maximum


def test_a_file_may_be_named_from_here_or_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings come from environment files, in which no shell expands the tilde."""
    (tmp_path / "my_rules.py").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("my_rules.py", "./my_rules.py", "~/my_rules.py"):
        registry = Registry()
        load_rules(registry, name)
        assert registry.rule_for("mine") is maximum


def test_rules_load_from_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed app gives a dotted name."""
    package = tmp_path / "some_app_for_rules"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "merging.py").write_text(GOOD)
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry()
    load_rules(registry, "some_app_for_rules.merging")
    assert registry.rule_for("mine") is maximum
    sys.modules.pop("some_app_for_rules.merging")
    sys.modules.pop("some_app_for_rules")


@pytest.mark.parametrize(
    ("source", "what", "remedy"),
    [
        ("x = 1", "defines no function register", "see the guide"),
        ("register = 5", "defines no function register", "see the guide"),
        ("def register(registry: 1 +", "SyntaxError", "; correct it there"),
        ("import no_such_module_at_all", "'no_such_module_at_all'", "; correct it there"),
        ("x = 1\n1 / 0", ", line 2 cannot be imported: ZeroDivisionError", "; correct it there"),
        ("raise SystemExit(3)", "SystemExit: 3", "; correct it there"),
        ("from merge_rules import maximun", "cannot import name 'maximun'", "the rules are best,"),
        ("def register(r): r.register('a', latest)", "NameError", "last_write_wins, map_of"),
        ("import merge_rules as m\ndef register(r): m.maxi", "has no attribute", "the rules are"),
        (
            "def register(registry): raise KeyError('boom')",
            "KeyError: 'boom'",
            "; correct it there",
        ),
        ("def register(): pass", "TypeError", "; correct it there"),
        (
            "from merge_rules import record\ndef register(r): r.register('a', record)",
            "'a': ",
            "such as maximum",
        ),
        (
            "from merge_rules import flag\ndef register(r): r.register('a b', flag)",
            "'a b' can match no key",
            "keys are",
        ),
        (
            "from merge_rules import map_of, strict\ndef register(r): map_of(strict)",
            "ValueError: strict applies to a whole document",
            "; correct it there",
        ),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong_and_the_remedy(
    tmp_path: Path, source: str, what: str, remedy: str
) -> None:
    """Rules load at start; the person who reads this line has nothing else to go by."""
    file = tmp_path / "broken_rules.py"
    file.write_text(source)
    with pytest.raises(RegistryError) as caught:
        load_rules(Registry(), str(file))
    message = str(caught.value)
    assert message.startswith(str(file))
    assert what in message
    assert remedy in message


NAMES_A_MODULE = "SYNCLINE_RULES names a module on Python's path, or a file that ends in .py"


@pytest.mark.parametrize(
    ("name", "what", "remedy"),
    [
        ("no_such_package.rules", "No module named", NAMES_A_MODULE),
        ("", "ValueError", NAMES_A_MODULE),
        (".relative", "TypeError", NAMES_A_MODULE),
        ("json", "defines no function register", "see the guide"),
    ],
)
def test_a_module_that_is_not_there_is_named(name: str, what: str, remedy: str) -> None:
    """A wrong SYNCLINE_RULES must not look like a fault of the service."""
    with pytest.raises(RegistryError, match=what) as caught:
        load_rules(Registry(), name)
    assert str(caught.value).startswith(name)
    assert str(caught.value).endswith(f"; {remedy}")


def test_a_file_that_is_not_there_is_named_with_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is read from the service's directory, which the author may not know."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.py").mkdir()
    for name in ("missing.py", "folder.py"):
        with pytest.raises(RegistryError, match="SYNCLINE_RULES names") as caught:
            load_rules(Registry(), name)
        assert str(tmp_path / name) in str(caught.value)


# Rules of an app's own --------------------------------------------------------------------


class Forgetting(LastWriteWins):
    """Loses the later of two writes with one stamp."""

    name = "forgetting"

    def join(self, a: State, b: State) -> State:
        return a if a is not None and (b is None or a[0] >= b[0]) else b


class Unnamed(Rule):
    pass


@pytest.mark.parametrize("wrap", [lambda rule: rule, map_of, lambda rule: record({"a": rule})])
def test_a_rule_that_breaks_a_law_is_refused_unless_forced(wrap: Callable[[Rule], Rule]) -> None:
    """It would lose writes in silence; the refusal shows one, and names both ways out."""
    registry = Registry()
    with pytest.raises(RegistryError) as caught:
        registry.register("themes", wrap(Forgetting()))
    text = str(caught.value)
    assert text.startswith("'themes': forgetting breaks the law `commutative`")
    assert "A joined with B gives" in text
    assert "Correct the rule" in text
    assert "register('themes', …, unsafe=True)" in text
    assert registry.registered() == {}
    registry.register("themes", wrap(Forgetting()), unsafe=True)
    assert [*registry.registered()] == ["themes"]


def test_a_rule_without_a_name_is_refused_in_any_case() -> None:
    """Stored states name their rule, so there is no serving without."""
    for unsafe in (False, True):
        with pytest.raises(RegistryError, match="Unnamed does not say what it is"):
            Registry().register("k", Unnamed(), unsafe=unsafe)


def test_built_in_rules_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are trusted, and a start must not pay for them."""

    def never(rule: Rule) -> None:
        raise AssertionError(f"{rule} was tried")

    monkeypatch.setattr("merge_rules.registry.try_rule", never)
    shipped_registry()
    Registry().register("k", record({"a": map_of(counter, removable=True)}))


def test_a_refused_rule_leaves_the_shipped_one() -> None:
    """A failed replacement must not leave the key to the default rule."""
    registry = shipped_registry()
    before = registry.rule_for("settings")
    with pytest.raises(RegistryError):
        registry.register("settings", Forgetting())
    assert registry.rule_for("settings") is before


def test_every_rule_is_named_where_one_is_unknown() -> None:
    """The message that lists the rules must not leave one out."""
    functions = {name for name in merge_rules.__all__ if name.islower() and name != "load_rules"}
    assert functions == {*RULE_NAMES}


# Rules that merged before -----------------------------------------------------------------


class Own(Maximum):
    name = "own"


def test_a_registered_rule_made_the_states_that_it_names() -> None:
    """Before anything is remembered, states are those of the rules that are registered."""
    registry = Registry()
    registry.register("x", map_of(counter))
    for rule in (map_of(counter), counter, last_write_wins):
        assert registry.knows(rule.fingerprint)
        made = registry.made_by(rule.fingerprint)
        assert made is not None
        assert made.describe() == rule.describe()
    assert not registry.knows(maximum.fingerprint)
    assert registry.made_by(maximum.fingerprint) is None


def test_a_rule_that_merged_before_is_made_again_once() -> None:
    """A state outlives the registration of its rule and is read by that rule, not by the new."""
    registry = Registry()
    registry.refuses_unsafe = False
    registry.register("x", record({"a": Own()}))
    old = map_of(Own())
    registry.remember(old.fingerprint, old.describe())
    made = registry.made_by(old.fingerprint)
    assert made is not None
    assert made.describe() == "map_of(own)"
    registry.remember(old.fingerprint, "map_of(counter)")
    assert registry.made_by(old.fingerprint) is made


def test_a_rule_that_cannot_be_made_again_is_known_and_makes_nothing() -> None:
    """Its document cannot be read, which is another matter than a rule never heard of."""
    registry = Registry()
    registry.remember("01234567", "of_another_app(5)")
    assert registry.knows("01234567")
    assert registry.made_by("01234567") is None
    assert not registry.knows("76543210")


def test_every_part_of_a_registered_rule_is_found_by_its_words() -> None:
    """An app's own rule may stand anywhere inside the one that is registered."""
    registry = Registry(default=union)
    inner = resettable(best("n"))
    registry.register("x", record({"a": inner}, default=map_of(map_of(flag, removable=True))))
    assert {*registry.own_rules()} == {
        *("record({'a': resettable(best('n'))}, map_of(map_of(flag, removable=True)))", "union"),
        *("resettable(best('n'))", "best('n')", "flag", "map_of(flag, removable=True)"),
        "map_of(map_of(flag, removable=True))",
    }
    assert all(rule.describe() == words for words, rule in registry.own_rules().items())


# What a rule says of itself ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "whole", "inside"),
    [
        (last_write_wins, False, True),
        (maximum, False, False),
        (minimum, False, False),
        (flag, False, False),
        (best("n"), False, False),
        (counter, True, True),
        (union, False, False),
        (causal_set, True, True),
        (map_of(maximum), False, False),
        (map_of(last_write_wins), True, True),
        (map_of(counter), True, True),
        (map_of(map_of(flag)), False, False),
        (map_of(maximum, removable=True), True, True),
        (record({"a": maximum}, default=flag), False, False),
        (record({"a": maximum}), True, True),
        (record({"a": counter}, default=flag), True, True),
        (record({"a": record({"b": union}, default=union)}, default=flag), False, False),
        (strict, True, True),
        (resettable(counter), True, True),
        (resettable(maximum), False, False),
    ],
)
def test_the_base_is_needed_as_the_design_says(rule: Rule, whole: bool, inside: bool) -> None:
    """Where it is, a write without a base is refused; where it is not, that would be a nuisance."""
    again = rule_from(rule.describe(), {})
    assert again is not None
    for one in (rule, again):
        assert one.needs_base is whole
        assert one.needs_base_inside is inside


def test_strict_stands_alone() -> None:
    """Strict answers 409 for a document; inside one there is nobody to answer."""
    with pytest.raises(ValueError, match="whole document"):
        map_of(strict)
    with pytest.raises(ValueError, match="whole document"):
        map_of(strict, removable=True)
    with pytest.raises(ValueError, match="field 'a'"):
        record({"a": strict})
    with pytest.raises(ValueError, match="whole document"):
        resettable(strict)
    with pytest.raises(ValueError, match="field '\\*'"):
        record({}, default=strict)


def test_rules_that_differ_have_other_fingerprints() -> None:
    """A stored state names its rule; two rules with one name would read each other's states."""
    rules = [
        last_write_wins, strict, maximum, minimum, flag, counter, union, causal_set, best("n"),
        best("m"), map_of(maximum), map_of(minimum), map_of(maximum, removable=True),
        map_of(map_of(maximum)), record({}), record({}, default=flag), record({"a": flag}),
        record({"b": flag}), record({"a": maximum}), record({"a": flag, "b": flag}),
        record({"a": record({"b": flag})}), record({"*": flag}), record({"a=maximum, b": flag}),
        record({"a": maximum, "b": flag}),
    ]  # fmt: skip
    assert len({rule.fingerprint for rule in rules}) == len(rules)
    assert len({repr(rule) for rule in rules}) == len(rules)


def test_equal_rules_have_equal_fingerprints() -> None:
    """The order of fields in the source is no change of the rule."""
    one = record({"a": maximum, "b": map_of(best("n"))})
    two = record({"b": map_of(best("n")), "a": maximum})
    assert one.fingerprint == two.fingerprint
    assert repr(one) == "record({'a': maximum, 'b': map_of(best('n'))}, last_write_wins)"
    assert len(one.fingerprint) == 8


def test_regression_a_field_name_could_spell_another_rule() -> None:
    """Names stood bare in the description, so that two records had one fingerprint."""
    assert record({"a": flag, "b": flag}).describe() != record({"a=flag, b": flag}).describe()
