"""The command line: `syncline`."""

import asyncio
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from app import demo as demo_module
from app import levels_command, serving, stats_command
from app.auth.secret import hs256_secret
from app.auth.tokens import mint
from app.clock import system_clock
from app.config_command import settings_rows
from app.database.embedded import EmbeddedError
from app.database.engine import Database
from app.database.era import current_era
from app.database.migrate import MigrationError, migrate, newest_revision
from app.database.roles import NotGranted
from app.database.trouble import DATABASE_ERRORS, describe
from app.documents.rules import load_registry
from app.errors import SynclineError
from app.import_command import Order, run_import
from app.leaderboard.rebuild import rebuild
from app.logs import log_to_stderr
from app.main import OUTDATED, StartError
from app.operations import audit as audit_module
from app.operations import doctor as doctor_module
from app.operations.importing.mapping import (
    MappingError,
    load_mapping,
    mapping_text,
    renamed,
    shipped,
)
from app.operations.importing.source import SourceError
from app.rules_explain import explain_merge
from app.rules_replay import replay_module
from app.settings import Settings, SettingsError, load_settings, unknown_variables
from app.tables import table
from merge_rules.registry import RegistryError

DAY_S = 86_400
SOME_REJECTED = 3
"""Exit status of an import that is done, and of which something was rejected."""

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
        SourceError,
        EmbeddedError,
        MappingError,
        MigrationError,
        RegistryError,
        StartError,
    ) as error:
        say(f"syncline: {error}")
        sys.exit(1)
    except SynclineError as error:
        say(f"syncline: {OUTDATED if isinstance(error.__cause__, NotGranted) else error}")
        sys.exit(1)
    except DATABASE_ERRORS as error:
        say(f"syncline: the database cannot be used: {describe(error)}")
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
@click.option(
    "--days",
    type=click.IntRange(1, 36_500),
    default=30,
    show_default=True,
    help="How long it is valid.",
)
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
        rows = settings_rows(_settings())
        out.print(table(("Variable", "Meaning", "Default", "Now"), rows))


@main.command()
@click.option("--url", help="A running service; without it, yours is used or one is started.")
def demo(url: str | None) -> None:
    """A phone and a tablet edit offline, conflict on three documents, and meet again."""
    with expected_failures():
        settings = _settings()
        with serving.running_service(settings, url, say) as service:
            token = service.token(f"demo-{secrets.token_hex(6)}")
            good = demo_module.play(service.url, token, out)
        stays = serving.base_url(settings.host, settings.port) if service.temporary else service.url
        demo_module.next_steps(stays, out)
        sys.exit(0 if good else 1)


@main.command()
def doctor() -> None:
    """Say what is wrong with this set-up, and what to do."""
    _look_for_rules_here()
    findings = doctor_module.examine(os.environ)
    rows = [("ok" if one.good else "!!", one.subject, one.text) for one in findings]
    out.print(table(("", "What", "Finding"), rows))
    sys.exit(0 if all(finding.good for finding in findings) else 1)


@main.command("audit")
@click.argument("account", required=False)
def audit_command(account: str | None) -> None:
    """Prove that totals = events, versions = revisions and heads = changes, for ACCOUNT or all."""
    with expected_failures():
        settings = _settings()
        with serving.database_url(settings, say) as url:
            findings = asyncio.run(audit_module.audit(url, account, out))
        sys.exit(1 if findings.differences else 0)


@main.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Measure this machine's figures, against its database's own."""
    from bench.command import main as measure  # noqa: PLC0415 - nothing else here needs it

    with expected_failures():
        measure.main(arguments, prog_name="syncline bench")


@main.group("leaderboard")
def leaderboard_group() -> None:
    """The leaderboards."""


@leaderboard_group.command("rebuild")
def rebuild_leaderboards() -> None:
    """Count every board anew, and build anew those that Redis has."""
    with expected_failures():
        log_to_stderr()
        settings = _settings()
        with serving.database_url(settings, say) as url:
            boards = asyncio.run(rebuild(settings, url))
        rows = [(one.board, str(one.accounts), "yes" if one.cached else "-") for one in boards]
        out.print(table(("Board", "Accounts", "In Redis"), rows))


@main.command("import")
@click.argument("mapping", required=False)
@click.option("--from", "places", multiple=True, help="URL of a PostgreSQL, or a file.")
@click.option("--dry-run", is_flag=True, help="Say what would become of each row; write nothing.")
@click.option("--rejects", type=Path, help="File for rejected rows, as JSON lines.")
@click.option(
    "--table", "old_table", help="Table to read, where it is not the one that the mapping names."
)
@click.option("--source", help="Name of the facts, where it is not the one of the mapping.")
@click.option("--restart", is_flag=True, help="Begin at the beginning, not where it stopped.")
@click.option("--show", is_flag=True, help="Print the mapping, to make one's own of it.")
def import_command(
    mapping: str | None,
    places: tuple[str, ...],
    dry_run: bool,
    rejects: Path | None,
    old_table: str | None,
    source: str | None,
    restart: bool,
    show: bool,
) -> None:
    """Move in from an earlier system: MAPPING says what becomes of its rows.

    MAPPING is the name of one that ships with Syncline (without any, they are listed) or a file.
    An import can be stopped at any moment, goes on where it was, and may be repeated: it changes
    nothing a second time, and loses nothing that was written meanwhile.
    """
    with expected_failures():
        if mapping is None:
            rows = [(name, load_mapping(name).description) for name in shipped()]
            out.print(table(("Mapping", "Reads"), rows))
            return
        if show:
            click.echo(mapping_text(mapping), nl=False)
            return
        loaded = load_mapping(mapping)
        if not places:
            raise SourceError("name what to read with --from: a postgresql:// URL, or a file")
        kind = "dry-run" if dry_run else "rejects"
        order = Order(
            mapping=loaded if source is None else renamed(loaded, source),
            places=places,
            table=old_table,
            rejects=rejects or Path(f"{Path(mapping).stem}-{kind}.jsonl"),
            dry_run=dry_run,
            afresh=restart,
        )
        settings = _settings()
        log_to_stderr()
        with serving.database_url(settings, say) as url:
            try:
                complete = asyncio.run(run_import(settings, url, order, out))
            except KeyboardInterrupt:
                say("syncline: stopped; the same command goes on from here.")
                sys.exit(130)
        sys.exit(0 if complete else SOME_REJECTED)


@main.group()
def rules() -> None:
    """The merge rules of documents."""


@rules.command("list")
def list_rules() -> None:
    """List which rule merges which document."""
    with expected_failures():
        registry = load_registry(_settings())
        rules = {**registry.registered(), "*": registry.default}
        rows = [(key, rule.describe(), rule.fingerprint) for key, rule in rules.items()]
        out.print(table(("Key", "Rule", "Fingerprint"), rows))


@rules.command()
@click.argument("module", required=False)
@click.option(
    "--examples",
    type=click.IntRange(1, 1_000_000),
    default=500,
    show_default=True,
    help="How many of each kind to try.",
)
def check(module: str | None, examples: int) -> None:
    """Check the laws of every rule that a module registers (default: SYNCLINE_RULES)."""
    with expected_failures():
        name = module or _settings().rules
        if name is None:
            raise RegistryError("name a module or a file of rules, or set SYNCLINE_RULES")
        _look_for_rules_here()
        try:
            from app import rules_check  # noqa: PLC0415 - Hypothesis is not in a plain install
        except ModuleNotFoundError as error:
            if error.name != "hypothesis":
                raise
            raise RegistryError(
                "rules are checked with Hypothesis: pip install 'syncline[testing]'"
            ) from error
        sys.exit(0 if rules_check.check_module(name, examples, out) else 1)


@rules.command()
@click.option("--rules", "module", required=True, help="Module or file with the changed rules.")
@click.option("--show", type=click.IntRange(0), default=20, show_default=True, help="Documents.")
def replay(module: str, show: int) -> None:
    """Run the kept revisions through changed rules and show which documents would differ."""
    with expected_failures():
        settings = _settings()
        with serving.database_url(settings, say) as url:
            asyncio.run(replay_module(url, module, show, out))


@rules.command("explain")
@click.argument("key")
@click.option("--base", default=None, help="The document that both sides began with, as JSON.")
@click.option("--ours", required=True, help="What this device made of it, as JSON.")
@click.option("--theirs", required=True, help="What another device made of it, as JSON.")
def explain_command(key: str, base: str | None, ours: str, theirs: str) -> None:
    """Show how the rule of KEY merges two edits of one document, path by path."""
    with expected_failures():
        explain_merge(load_registry(_settings()), key, base, ours, theirs, out)


@main.command()
@click.option("--account", help="The devices of one account instead.")
@click.option("--json", "as_json", is_flag=True, help="As the admin routes answer.")
def stats(account: str | None, as_json: bool) -> None:
    """Show what is stored, what merges, what is refused, and which devices lag."""
    with expected_failures():
        settings = _settings()
        with serving.database_url(settings, say) as url:
            asyncio.run(stats_command.show_stats(settings, url, account, as_json, out))


@main.group()
def levels() -> None:
    """The catalogue of levels, from which the XP of an attempt comes."""


@levels.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--version", type=click.IntRange(0), help="Publish only if this is still the newest version."
)
def publish(file: Path, version: int | None) -> None:
    """Publish the levels of a JSON FILE as the whole catalogue."""
    with expected_failures():
        settings, catalogue = _settings(), levels_command.read_catalogue(file, version)
        with serving.database_url(settings, say) as url:
            asyncio.run(levels_command.publish_levels(settings, url, catalogue, out))


@levels.command("list")
def list_levels() -> None:
    """List the levels and what finishing each is worth."""
    with expected_failures():
        settings = _settings()
        with serving.database_url(settings, say) as url:
            asyncio.run(levels_command.list_levels(settings, url, out))


def _settings() -> Settings:
    settings = load_settings()
    for name in unknown_variables():
        say(f"syncline: {name} is not a setting and does nothing; see `syncline config`.")
    _look_for_rules_here()
    return settings


def _look_for_rules_here() -> None:
    """A module of rules is found in the folder where the command runs."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))


if __name__ == "__main__":
    main()
