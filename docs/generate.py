"""Writes the reference pages from the code: settings, commands, faults, permissions.

``--check`` only says whether they are true.

python docs/generate.py [--check]
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import typer
from client_reference import client_page

from pyvospace.cli.main import make_app
from pyvospace.config.reference import heading, reference, sections
from pyvospace.model.faults import FAULTS
from pyvospace.server.administration.table import document
from pyvospace.server.policy import NEEDED, TABLE, Bar, OneOf

FOLDER = Path(__file__).parent / "reference"
_NOTE = "<!-- Written by docs/generate.py from the code: change it there. -->\n"


def settings_page() -> str:
    """Write the page of settings."""
    lines = [
        _NOTE,
        "# Settings",
        "",
        "From, in order of precedence: the command line, environment variables, a TOML file (`--config`,",
        "`PYVOSPACE_CONFIG`, `~/.config/pyvospace/pyvospace.toml`, `/etc/pyvospace.toml`). Durations are in seconds,",
        "sizes in bytes. `pyvospace config check` names what is wrong, `pyvospace config show` writes those in effect.",
    ]
    described = sections()
    section, title = None, ""
    for one in reference():
        if one.section != section:
            section = one.section
            title = heading(section) if section else "At the top of the file"
            lines += ["", f"## {title}", ""]
            if section:
                lines += [described[section], ""]
        json = " (JSON, all tables)" if title.startswith("[[") else ""
        default = f" Default: `{one.default}`." if one.default else ""
        lines += [f"### {one.name}", "", f"{one.description}{default} Environment: `{one.variable}`{json}.", ""]
    return "\n".join(lines).rstrip() + "\n"


def commands_page() -> str:
    """Write the page of commands."""
    command = typer.main.get_command(make_app())
    lines = [
        _NOTE,
        "# Commands",
        "",
        "Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage",
        "or wrong settings, 130 interrupted; a fault has the code of [its row](faults.md).",
        "",
    ]
    lines += _commands(command, "pyvospace", typer.Context(command, info_name="pyvospace"))
    return "\n".join(lines).rstrip() + "\n"


def _commands(command: Any, name: str, context: typer.Context) -> list[str]:
    lines: list[str] = []
    for child in command.list_commands(context) if hasattr(command, "list_commands") else ():
        found = command.get_command(context, child)
        lines += _commands(found, f"{name} {child}", typer.Context(found, info_name=child, parent=context))
    if lines and not command.invoke_without_command:
        return lines
    below, lines = lines, []
    usage = " ".join(command.collect_usage_pieces(context))
    lines += [f"## {name}", "", f"`{name} {usage}`", "", (command.help or "").strip(), ""]
    rows = [row for one in command.get_params(context) if (row := one.get_help_record(context))]
    if rows:
        lines += ["| option | meaning |", "| --- | --- |"]
        lines += [f"| `{_cell(option)}` | {_cell(meaning)} |" for option, meaning in rows]
        lines.append("")
    return lines + below


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def faults_page() -> str:
    """Write the page of faults."""
    lines = [
        _NOTE,
        "# Faults",
        "",
        "What a server answers in `text/plain`: the name, a space, the details. In a job the name is at",
        "`/error`, the words with the details are in `errorSummary`. The command line leaves with the exit code.",
        "",
        "| fault | HTTP status | exit code | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for name, fault in sorted(FAULTS.items(), key=lambda item: item[0].lower()):
        meaning = (fault.__doc__ or "").splitlines()[0]
        lines.append(f"| `{name}` | {fault.status.value} | {fault.exit_code} | {meaning} |")
    return "\n".join(lines) + "\n"


def permissions_page() -> str:
    """Write the page of rules."""
    lines = [
        _NOTE,
        "# Permissions",
        "",
        "For each right the rules in the order in which the service looks at them: a rule that *refuses* and applies",
        "ends it; of those that *grant* one must apply, or the answer is the rule `private`. `/permissions` and",
        "`pyvospace why` say by which rule somebody may do something or not; how to ask them, and what follows of the",
        "rules, is in [Who may do what](../howto/permissions.md). Of `create` and `delete`, owner and groups are those",
        "of the container. A token that is limited needs the right in brackets.",
        "",
    ]
    for right, steps in TABLE.items():
        lines += [f"## {right}", "", f"{right.words} (Tokens: `{NEEDED[right]}`.)", ""]
        lines += ["| rule | | when |", "| --- | --- | --- |"]
        lines += [row for step in steps for row in _rule_rows(step)]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _rule_rows(step: Bar | OneOf) -> list[str]:
    if isinstance(step, Bar):
        return [f"| `{step.name}` | refuses | {step.words} |"]
    granting = [f"| `{grant.name}` | grants | {grant.words} |" for grant in step.grants]
    return [*granting, f"| `{step.name}` | refuses | {step.words} |"]


def administration_document() -> str:
    """Write the OpenAPI document of the resources of JSON."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


PAGES = {
    "administration.json": administration_document,
    "settings.md": settings_page,
    "commands.md": commands_page,
    "faults.md": faults_page,
    "permissions.md": permissions_page,
    "client.md": partial(client_page, _NOTE),
}


def main() -> int:
    """Write the pages, or compare them."""
    wrong = []
    for name, page in PAGES.items():
        file = FOLDER / name
        text = page()
        if "--check" in sys.argv[1:]:
            if not file.exists() or file.read_text() != text:
                wrong.append(name)
        else:
            file.write_text(text)
    if wrong:
        print(f"out of date: {', '.join(wrong)}; run ./dev docs", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
