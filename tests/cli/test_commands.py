"""The commands that look, explain and check."""

import asyncio
import sys
from pathlib import Path

import asyncpg
import jwt
import msgspec
import pytest

import app
from app.settings import Settings, variable
from merge_rules import registry as registry_module
from tests.cli.conftest import Invoke
from tests.conftest import Cluster

LONG_ENOUGH = "a-secret-of-an-operator-" + "2" * 32
BROKEN_RULES = "def register(registry):\n    registry.register('game', 'maximum')\n"
GOOD_RULES = """
from merge_rules.scalar import maximum

def register(registry):
    registry.register("high:*", maximum)
    registry.register("settings", maximum)
"""
CARELESS_RULES = """
from merge_rules import maximum, record
from merge_rules.register import LastWriteWins

class FirstWins(LastWriteWins):
    name = "first_wins"
    def join(self, a, b):
        if a is None or b is None:
            return a or b
        return a if a[0] >= b[0] else b

def register(registry):
    registry.register("score", maximum)
    registry.register("themes", record({"theme": FirstWins()}))  # -
"""


# --- token ------------------------------------------------------------------------------------


def test_a_token_names_the_account_and_ends(invoke: Invoke) -> None:
    """A development token is what the service verifies: the same secret, audience and issuer."""
    result = invoke(
        "token",
        "maja@example.org",
        "--days",
        "2",
        SYNCLINE_JWT_SECRET=LONG_ENOUGH,
        SYNCLINE_JWT_AUDIENCE="app",
        SYNCLINE_JWT_ISSUER="me",
    )
    assert result.exit_code == 0
    claims = jwt.decode(result.stdout.strip(), LONG_ENOUGH, ["HS256"], audience="app", issuer="me")
    assert claims["sub"] == "maja@example.org"
    assert claims["exp"] - claims["iat"] == 2 * 86_400


def test_a_token_alone_stands_on_stdout(invoke: Invoke) -> None:
    """`$(syncline token me)` in a shell must give the token and no warnings."""
    result = invoke("token", "me", SYNCLINE_JWT_SECRTE="typo")
    assert result.stdout.count("\n") == 1
    assert result.stdout.count(".") == 2
    assert "SYNCLINE_JWT_SECRTE is not a setting" in result.stderr


@pytest.mark.parametrize("account", ["", "x" * 129, "new\nline"])
def test_a_token_for_no_account_is_refused(invoke: Invoke, account: str) -> None:
    """A token that the service would refuse must not be printed."""
    result = invoke("token", account)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "syncline: an account is 1 to 128 characters" in result.stderr


@pytest.mark.parametrize("days", ["0", "-1", "x"])
def test_a_token_needs_days_to_live(invoke: Invoke, days: str) -> None:
    """A token that has ended already only costs its user time."""
    result = invoke("token", "me", "--days", days)
    assert (result.exit_code, result.stdout) == (2, "")


def test_tokens_of_another_issuer_are_not_minted_here(invoke: Invoke) -> None:
    """With public keys alone there is no secret: say who issues, make no secret."""
    result = invoke("token", "me", SYNCLINE_JWKS_URL="https://issuer.example/keys")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "SYNCLINE_JWKS_URL" in result.stderr
    assert "set SYNCLINE_JWT_SECRET" in result.stderr
    assert not Path(".syncline").exists()


# --- config -----------------------------------------------------------------------------------


def test_config_lists_every_setting(invoke: Invoke) -> None:
    """A setting that is not listed is one that nobody can find."""
    result = invoke("config", SYNCLINE_PORT="8123")
    assert result.exit_code == 0
    schema = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]
    for field in msgspec.structs.fields(Settings):
        name = variable(field.name)
        (line,) = [line for line in result.stdout.splitlines() if f" {name} " in line]
        assert schema[field.name]["description"] in line
        assert ("-" if field.default is None else str(field.default)) in line
    (port,) = [line for line in result.stdout.splitlines() if "SYNCLINE_PORT" in line]
    assert "8080" in port
    assert "8123" in port


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:hunter2@db/app", "postgresql://me:(set)@db/app"),
        ("postgresql://me:hun:ter2@x@db/app", "postgresql://me:(set)@db/app"),
        ("postgresql:///app?user=me&password=hunter2", "postgresql:///app?user=me&password=(set)"),
        ("postgresql://db:5432/app", "postgresql://db:5432/app"),
    ],
)
def test_config_hides_secrets(invoke: Invoke, url: str, shown: str) -> None:
    """What is pasted into a bug report must not hold passwords."""
    result = invoke("config", SYNCLINE_DATABASE_URL=url, SYNCLINE_JWT_SECRET=LONG_ENOUGH)
    assert shown in result.stdout
    assert "ter2" not in result.stdout
    assert LONG_ENOUGH not in result.stdout


@pytest.mark.parametrize("command", [("config",), ("serve",), ("rules", "list"), ("migrate",)])
def test_a_bad_setting_is_one_sentence(invoke: Invoke, command: tuple[str, ...]) -> None:
    """A wrong value names its variable, whatever the command, and shows no traceback."""
    result = invoke(*command, SYNCLINE_PORT="many")
    assert result.exit_code == 1
    assert result.stderr.startswith("syncline: SYNCLINE_PORT: ")
    assert result.stderr.count("\n") == 1


# --- doctor -----------------------------------------------------------------------------------


def test_the_doctor_finds_a_good_set_up_good(invoke: Invoke, cluster_18: Cluster) -> None:
    """A healthy service must not be given pills: only the tests' missing fsync is found."""
    result = invoke(
        "doctor", SYNCLINE_DATABASE_URL=cluster_18.clone(), SYNCLINE_JWT_SECRET=LONG_ENOUGH
    )
    bad = [line for line in result.stdout.splitlines() if "!!" in line]
    assert len(bad) == 1
    assert "fsync" in bad[0]
    assert result.stdout.count(" ok ") == 9


def test_the_doctor_is_content_with_an_empty_folder(invoke: Invoke) -> None:
    """Before the first start nothing is wrong, and the doctor starts no database to say so."""
    result = invoke("doctor")
    assert result.exit_code == 0
    assert "`syncline serve` makes it" in result.stdout
    assert not Path(".syncline/postgres").exists()


def test_the_doctor_makes_no_admin_token(invoke: Invoke) -> None:
    """It would show it to nobody, and `serve` would take it for one that was shown."""
    assert "`syncline serve` makes one, and shows it once" in invoke("doctor").stdout
    kept = Path(".syncline/admin-token")
    assert not kept.exists()
    kept.write_text("t" * 43)
    found = invoke("doctor").stdout
    assert str(kept.absolute()) in found
    assert "t" * 43 not in found
    assert "yours" in invoke("doctor", SYNCLINE_ADMIN_TOKEN="o" * 32).stdout


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"SYNCLINE_DATABASE_URL": "mysql://db/app"}, ["postgresql://", "SYNCLINE_DATABASE_URL"]),
        ({"SYNCLINE_DATABASE_URL": "postgresql://127.0.0.1:1/x"}, ["cannot be reached"]),
        ({"SYNCLINE_REDIS_URL": "redis://127.0.0.1:1/0"}, ["Redis", "SYNCLINE_REDIS_URL", "late"]),
        ({"SYNCLINE_PROT": "8080"}, ["SYNCLINE_PROT is not a setting"]),
        ({"SYNCLINE_PORT": "70000"}, ["SYNCLINE_PORT"]),
        ({"SYNCLINE_JWT_SECRET": "short"}, ["SYNCLINE_JWT_SECRET", "32 bytes"]),
        ({"SYNCLINE_ADMIN_TOKEN": "short"}, ["SYNCLINE_ADMIN_TOKEN", "32 bytes"]),
        ({"SYNCLINE_ADMIN_TOKEN": "with space" * 9}, ["SYNCLINE_ADMIN_TOKEN", "without spaces"]),
        ({"SYNCLINE_RULES": "no_such_rules"}, ["no_such_rules", "cannot be imported"]),
    ],
)
def test_the_doctor_names_what_is_wrong(
    invoke: Invoke, variables: dict[str, str], words: list[str]
) -> None:
    """Each finding says which variable is at fault, and the exit status is for scripts."""
    result = invoke("doctor", **variables)
    assert result.exit_code == 1
    (bad,) = [line for line in result.stdout.splitlines() if "!!" in line]
    for word in words:
        assert word in bad


def test_the_doctor_sends_an_old_schema_to_migrate(invoke: Invoke, cluster_18: Cluster) -> None:
    """The most common fault of an update names its remedy."""
    url = cluster_18.clone()
    asyncio.run(_drop_everything(url))
    result = invoke("doctor", SYNCLINE_DATABASE_URL=url)
    assert result.exit_code == 1
    assert "at nothing: run `syncline migrate`" in result.stdout


async def _drop_everything(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("drop schema public cascade; create schema public")
    await connection.close()


# --- rules ------------------------------------------------------------------------------------


def test_the_rules_are_listed_with_the_default(invoke: Invoke) -> None:
    """An app's author sees every rule that is at work, the rule of all other keys too."""
    listed = invoke("rules", "list").stdout
    for words in ("game_stats", "'games_played': counter", "lesson:*", "last_write_wins"):
        assert words in listed


def test_own_rules_are_found_in_the_folder(invoke: Invoke) -> None:
    """A module beside the data is found by list and by doctor alike, without PYTHONPATH."""
    Path("own_rules_here.py").write_text(GOOD_RULES)
    listed = invoke("rules", "list", SYNCLINE_RULES="own_rules_here")
    assert "high:*" in listed.stdout
    assert "9 keys and patterns" in invoke("doctor", SYNCLINE_RULES="own_rules_here").stdout


def test_good_rules_pass_the_check(invoke: Invoke) -> None:
    """The check says what a module registers, what it replaces, and how often that held."""
    Path("rules.py").write_text(GOOD_RULES)
    result = invoke("rules", "check", "rules.py", "--examples", "10")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "settings (replaces the shipped rule): maximum: holds, 60 examples",
        "high:*: maximum: holds, 60 examples",
    ]


def test_a_broken_rule_is_told_as_a_story(invoke: Invoke) -> None:
    """Whoever reads it must see who wrote what, and that the order of joining matters."""
    Path("careless.py").write_text(CARELESS_RULES)
    result = invoke("rules", "check", "careless.py", "--examples", "100")
    assert result.exit_code == 1
    assert "themes: record({'theme': first_wins}, last_write_wins): BROKEN in careless.py" in (
        result.stdout
    )
    assert "breaks the law `commutative`: A joined with B is B joined with A" in result.stdout
    for line in ("A: device a wrote", "B: device ", "A joined with B gives", "B joined with A"):
        assert line in result.stdout
    assert "score: maximum: holds" in result.stdout


def test_a_rule_that_is_registered_as_unsafe_is_checked_all_the_same(invoke: Invoke) -> None:
    """Forcing it past the start must not silence the check."""
    Path("forced.py").write_text(CARELESS_RULES.replace("))  # -", "), unsafe=True)  # -"))
    assert invoke("rules", "list", SYNCLINE_RULES="forced.py").exit_code == 0
    assert invoke("rules", "check", "forced.py", "--examples", "100").exit_code == 1


def test_a_broken_rule_does_not_serve(invoke: Invoke) -> None:
    """It is refused where it registers, with the example and both ways out."""
    Path("careless.py").write_text(CARELESS_RULES)
    result = invoke("serve", SYNCLINE_RULES="careless.py")
    assert result.exit_code == 1
    for words in ("careless.py: 'themes': first_wins breaks the law", "Correct", "unsafe=True"):
        assert words in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise KeyError('lost')", ["breaks the law `raises`", "raised KeyError: 'lost'"]),
        ("return {1, 2}", ["breaks the law `plain results`", "which is not a state"]),
        ("return float('nan')", ["breaks the law `plain results`"]),
        ("import sys; sys.exit()", ["breaks the law `raises`", "SystemExit"]),
    ],
)
def test_a_rule_that_misbehaves_is_a_story_too(invoke: Invoke, body: str, words: list[str]) -> None:
    """Whatever an app's code does, the check names the file, the rule and the call."""
    Path("odd.py").write_text(
        "from merge_rules.scalar import Maximum\n"
        f"class Odd(Maximum):\n    name = 'odd'\n    def join(self, a, b):\n        {body}\n"
        "def register(registry):\n    registry.register('k', Odd())\n"
    )
    result = invoke("rules", "check", "odd.py", "--examples", "20")
    assert result.exit_code == 1
    for word in ("k: odd: BROKEN in odd.py", *words):
        assert word in result.stdout, result.output
    assert "Traceback" not in result.output


def test_a_module_that_never_finishes_is_stopped(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that hangs in CI says nothing about why."""
    monkeypatch.setattr(registry_module, "LOADING_LIMIT_S", 0.2)
    for text in ("while True:\n    pass\n", "def register(registry):\n    while True: pass\n"):
        Path("endless.py").write_text(text)
        result = invoke("rules", "check", "endless.py")
        assert result.exit_code == 1
        assert "endless.py did not finish within 0.2 s" in result.stderr


def test_without_hypothesis_the_check_says_what_to_install(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an extra, since a service needs none of it."""
    Path("rules.py").write_text(GOOD_RULES)
    for name in [name for name in sys.modules if name.startswith("merge_rules.testing")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "app.rules_check", raising=False)
    monkeypatch.delattr(app, "rules_check", raising=False)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    result = invoke("rules", "check", "rules.py")
    assert result.exit_code == 1
    assert result.stderr == (
        "syncline: rules are checked with Hypothesis: pip install 'syncline[testing]'\n"
    )


def test_a_module_without_rules_says_so(invoke: Invoke) -> None:
    """Nothing was checked, and that must not look like a pass of something."""
    Path("none.py").write_text("def register(registry):\n    pass\n")
    result = invoke("rules", "check", "none.py")
    assert (result.exit_code, result.stdout) == (0, "none.py registers no rule of its own.\n")


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (BROKEN_RULES, "is not a rule, such as maximum"),
        ("def register(registry:\n", "SyntaxError"),
        ("import no_such_module\n", "ModuleNotFoundError"),
        ("rules = []\n", "defines no function register(registry)"),
        ("def register(registry):\n    1 / 0\n", "ZeroDivisionError"),
        (None, "is not a file; SYNCLINE_RULES names a module or a file"),
    ],
)
def test_broken_rules_name_the_file_and_the_remedy(
    invoke: Invoke, text: str | None, remedy: str
) -> None:
    """Rules are checked before a deployment: exit 1, one sentence, no traceback."""
    if text is not None:
        Path("broken.py").write_text(text)
    for command in (["rules", "check", "broken.py"], ["rules", "list"], ["serve"]):
        result = invoke(*command, SYNCLINE_RULES="broken.py")
        assert result.exit_code == 1
        assert "broken.py" in result.stderr
        assert remedy in result.stderr
        assert "Traceback" not in result.stderr


def test_nothing_to_check_is_said(invoke: Invoke) -> None:
    """Without a module the check must not pass as if it had looked at one."""
    result = invoke("rules", "check")
    assert result.exit_code == 1
    assert "set SYNCLINE_RULES" in result.stderr


def _rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in text.splitlines()
        if line.startswith("│")
    ]


def test_a_merge_is_explained_path_by_path(invoke: Invoke) -> None:
    """The table answers "who won, and why" before an app is written."""
    result = invoke(
        *("rules", "explain", "game_stats", "--base", '{"score":5,"games_played":1}'),
        *("--ours", '{"score":9,"games_played":2}', "--theirs", '{"score":7,"games_played":4}'),
    )
    assert _rows(result.stdout) == [
        ["/games_played", "1", "2", "4", "5", "counter", "both"],
        ["/score", "5", "9", "7", "9", "maximum", "ours"],
    ]


def test_json_is_not_taken_for_markup(invoke: Invoke) -> None:
    """Brackets in a value such as [null] must not vanish as if they styled the table."""
    ours = msgspec.json.encode({"completed": [None, True]}).decode()
    result = invoke("rules", "explain", "lesson_progress", "--ours", ours, "--theirs", "{}")
    assert ["/completed", "-", "[null,true]", "-", "[null,true]", "union", "ours"] in _rows(
        result.stdout
    )


@pytest.mark.parametrize(
    ("ours", "words"), [("{", "JSON"), ('{"score":"high"}', "score"), ("[1]", "object")]
)
def test_what_cannot_be_merged_is_one_sentence(invoke: Invoke, ours: str, words: str) -> None:
    """A typing mistake on the command line gets an answer, not a traceback."""
    result = invoke("rules", "explain", "game_stats", "--ours", ours, "--theirs", "{}")
    assert result.exit_code == 1
    assert result.stderr.startswith("syncline: ")
    assert words in result.stderr
