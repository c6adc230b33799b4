"""The command line: `syncline`."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from app import demo as demo_module
from app import serving
from app.auth.secret import hs256_secret
from app.auth.tokens import mint
from app.clock import system_clock
from app.database.embedded import EmbeddedError
from app.database.engine import Database
from app.database.era import current_era
from app.database.migrate import MigrationError, migrate, newest_revision
from app.documents.rules import load_registry
from app.errors import SynclineError
from app.main import StartError
from app.operations import doctor as doctor_module
from app.settings import Settings, SettingsError, load_settings, unknown_variables, variable
from merge_rules.canonical import parse
from merge_rules.documents import shipped_registry
from merge_rules.receipt import explain
from merge_rules.refusal import Refusal
from merge_rules.registry import Registry, RegistryError, load_rules
from merge_rules.rule import ABSENT

SECRETS = {"jwt_secret"}
DAY_S = 86_400

out = Console()
err = Console(stderr=True)


def say(text: str) -> None:
    err.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def expected_failures() -> Iterator[None]:
    """What an operator can mend ends the command with one sentence and no traceback."""
    try:
        yield
    except (
        SettingsError,
        EmbeddedError,
        MigrationError,
        RegistryError,
        StartError,
        SynclineError,
    ) as error:
        say(f"syncline: {error}")
        sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="syncline")
def main() -> None:
    """Syncline: documents that many devices edit offline, merged by named rules."""


@main.command()
def serve() -> None:
    """Start the service; an embedded database is made and brought up to date by itself."""
    with expected_failures():
        settings = _settings()
        serving.serve(settings, say)


@main.command("migrate")
@click.option(
    "--new-era", is_flag=True, help="Expire all cursors: after restoring a copy of files."
)
def migrate_command(new_era: bool) -> None:
    """Bring the database up to date."""
    with expected_failures(), serving.database_url(_settings(), say) as url:
        asyncio.run(_migrate(url, new_era))
        say(f"The database is up to date (revision {newest_revision()}).")


async def _migrate(url: str, new_era: bool) -> None:
    database = Database(url, pool_size=2, statement_timeout_ms=10_000)
    try:
        await migrate(database)
        if new_era:
            async with database.connection() as connection:
                await current_era(connection, system_clock(), begin=True)
            say("A new era has begun: every client syncs afresh once.")
    finally:
        await database.close()


@main.command()
@click.argument("account")
@click.option("--days", default=30, show_default=True, help="How long it is valid.")
def token(account: str, days: int) -> None:
    """Print a token for ACCOUNT, signed with the secret of this service."""
    with expected_failures():
        settings = _settings()
        secret = hs256_secret(settings)
        if secret is None:
            raise SettingsError(
                "tokens come from the issuer behind SYNCLINE_JWKS_URL; set SYNCLINE_JWT_SECRET "
                "as well to mint some here"
            )
        try:
            text = mint(
                secret,
                account,
                ttl_s=days * DAY_S,
                now_ms=system_clock(),
                audience=settings.jwt_audience,
                issuer=settings.jwt_issuer,
            )
        except ValueError as error:
            raise SettingsError(str(error)) from error
        click.echo(text)


@main.command()
def config() -> None:
    """List every setting: its variable, meaning, default and present value."""
    with expected_failures():
        settings = _settings()
        table = Table("Variable", "Meaning", "Default", "Now")
        for name, meaning, default in _fields():
            value = getattr(settings, name)
            shown = "(set)" if name in SECRETS and value else _text(value)
            table.add_row(variable(name), meaning, _text(default), shown)
        out.print(table)


def _fields() -> Iterator[tuple[str, str, object]]:
    schema = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]
    for field in msgspec.structs.fields(Settings):
        yield field.name, schema[field.name]["description"], field.default


def _text(value: object) -> str:
    return "-" if value is None else str(value)


@main.command()
@click.option("--url", help="A running service; without it, yours is used or one is started.")
def demo(url: str | None) -> None:
    """Two phones edit offline, conflict on three documents, and meet again."""
    with expected_failures(), serving.running_service(_settings(), url, say) as service:
        sys.exit(0 if demo_module.play(service.url, service.token("demo"), out) else 1)


@main.command()
def doctor() -> None:
    """Say what is wrong with this set-up, and what to do."""
    findings = doctor_module.examine(os.environ)
    table = Table("", "What", "Finding")
    for finding in findings:
        table.add_row("ok" if finding.good else "!!", finding.subject, finding.text)
    out.print(table)
    sys.exit(0 if all(finding.good for finding in findings) else 1)


@main.group()
def rules() -> None:
    """The merge rules of documents."""


@rules.command("list")
def list_rules() -> None:
    """List which rule merges which document."""
    with expected_failures():
        registry = load_registry(_settings())
        table = Table("Key", "Rule", "Fingerprint")
        for pattern, rule in registry.registered().items():
            table.add_row(pattern, rule.describe(), rule.fingerprint)
        table.add_row("*", registry.default.describe(), registry.default.fingerprint)
        out.print(table)


@rules.command()
@click.argument("module", required=False)
def check(module: str | None) -> None:
    """Load a module of rules (default: SYNCLINE_RULES) and say what it registers."""
    with expected_failures():
        name = module or _settings().rules
        if name is None:
            raise RegistryError("name a module or a file of rules, or set SYNCLINE_RULES")
        registry = shipped_registry()
        shipped = registry.registered()
        load_rules(registry, name)
        for pattern, rule in registry.registered().items():
            if shipped.get(pattern) is not rule:
                replaces = " (replaces the shipped rule)" if pattern in shipped else ""
                out.print(f"{pattern}: {rule.describe()}{replaces}", highlight=False, markup=False)


@rules.command("explain")
@click.argument("key")
@click.option("--base", default=None, help="The document that both sides began with, as JSON.")
@click.option("--ours", required=True, help="What this device made of it, as JSON.")
@click.option("--theirs", required=True, help="What another device made of it, as JSON.")
def explain_command(key: str, base: str | None, ours: str, theirs: str) -> None:
    """Show how the rule of KEY merges two edits of one document, path by path."""
    with expected_failures():
        registry = load_registry(_settings())
        try:
            _explain(registry, key, base, ours, theirs)
        except Refusal as refusal:
            raise RegistryError(str(refusal)) from refusal


def _explain(registry: Registry, key: str, base: str | None, ours: str, theirs: str) -> None:
    rule = registry.rule_for(key)
    seen = rule.bottom
    if base is not None:
        seen = rule.advance(rule.bottom, _value(base), (1, 0, "before"))
    yours, current = _value(ours), _value(theirs)
    for value in (yours, current):
        rule.check(value)
    their_state = rule.advance(seen, current, (2, 0, "theirs"))
    our_state = rule.advance(seen, yours, (3, 0, "ours"))
    result = rule.value(rule.join(their_state, our_state))
    base_value = ABSENT if base is None else rule.value(seen)
    table = Table("Path", "Base", "Ours", "Theirs", "Result", "Rule", "Decided")
    for entry in explain(rule, base_value, yours, current, result):
        cells = [_json(entry, name) for name in ("base", "yours", "current", "result")]
        decided = {"yours": "ours", "current": "theirs", "both": "both"}[entry["decided"]]
        table.add_row(entry["path"] or "(whole)", *cells, entry["rule"], decided)
    out.print(table)


def _value(text: str) -> object:
    value, _ = parse(text.encode())
    return value


def _json(entry: dict[str, object], name: str) -> str:
    return msgspec.json.encode(entry[name]).decode() if name in entry else "-"


def _settings() -> Settings:
    settings = load_settings()
    for name in unknown_variables():
        say(f"syncline: {name} is not a setting and does nothing; see `syncline config`.")
    if settings.rules is not None and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return settings


if __name__ == "__main__":
    main()
