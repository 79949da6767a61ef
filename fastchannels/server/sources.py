"""Where options come from: a flag before the environment, before a file, before the default."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fastchannels.exceptions import UsageError
from fastchannels.server.config import Config
from fastchannels.server.http2_frames import INSTALLED
from fastchannels.server.options import CONFIG_FIELDS, ELSEWHERE, OPTIONS, Launch, Many, Option, Switch, all_options
from fastchannels.server.systemd import activated_sockets

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PYPROJECT: Final = "pyproject.toml"
_CONFIG: Final = "FASTCHANNELS_CONFIG"
#: Variables that begin like ours and are read by the build and by Django's side.
_OTHERS: Final = {_CONFIG, "FASTCHANNELS_DEBUG", "FASTCHANNELS_SANITIZE", "FASTCHANNELS_COVERAGE"}


class OptionError(UsageError):
    """An option that does not exist or a value that makes no sense; one line that names its source."""


# ---------------------------------------------------------------------------------------------------- flags


class Parser(argparse.ArgumentParser):
    """Takes the flags of the table, and tells the nearest one of those that it does not know."""

    #: Flags that may stand alone or before a word for on and off.
    switches: frozenset[str] = frozenset()

    def __init__(self, **options: Any) -> None:
        super().__init__(
            allow_abbrev=False,
            formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=28, width=120),
            **options,
        )

    def parse(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """Like ``parse_args``; exits with status 2 and one line for what it cannot take."""
        found: argparse.Namespace
        found, unknown = self.parse_known_args(arguments)
        for word in unknown:
            flag = word.partition("=")[0]
            if flag in ELSEWHERE:
                self.error(f"there is no {flag}: {ELSEWHERE[flag]}")
            if flag.startswith("-"):
                self.error(f"there is no {flag}{near(flag, known_flags())}")
        if unknown:
            self.error(f"{unknown[0]!r} is one argument too many")
        return found

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(_spell_out(words, self.switches), namespace)


def known_flags() -> list[str]:
    return ["--config", *(flag for option in all_options() for flag in [*option.flags, *option.off_flags])]


def near(name: str, known: Iterable[str]) -> str:
    """``; did you mean ...?`` when there is something to mean."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def add_flags(parser: Parser) -> None:
    """The whole table. Values stay text here, so that all sources are read and refused in one way."""
    parser.switches = frozenset(
        flag for option in all_options() if isinstance(option.kind, Switch) for flag in option.flags
    )
    parser.usage = "%(prog)s [options] module:attribute"
    parser.add_argument("application", nargs="?", metavar="module:attribute", help="an ASGI application or a layer")
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="TOML file of options in place of [tool.fastchannels] in ./pyproject.toml",
    )
    for heading, options in OPTIONS.items():
        group = parser.add_argument_group(heading)
        for option in options:
            if option.name == "application":
                continue
            default = option.default_text
            group.add_argument(
                *option.flags,
                dest=option.name,
                action="append" if isinstance(option.kind, Many) else "store",
                metavar=option.kind.metavar,
                help=(option.help + (f" ({default})" if default else "")).replace("%", "%%"),
            )
            if option.off_flags:
                group.add_argument(
                    *option.off_flags, dest=option.name, action="store_const", const="off", help=argparse.SUPPRESS
                )


def _spell_out(arguments: Sequence[str], switches: frozenset[str]) -> list[str]:
    """Give each switch its value: ``--reload`` is ``--reload=true``, ``--reload false`` is ``--reload=false``."""
    spelled: list[str] = []
    for word in arguments:
        if spelled and spelled[-1] in switches and word.lower() in Switch.words:
            spelled[-1] += f"={word}"
        else:
            spelled.append(word)
    return [f"{word}=true" if word in switches else word for word in spelled]


# ---------------------------------------------------------------------------------------------------- all sources


def resolve(flags: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> tuple[Config, Launch]:
    """What holds. Raises ``OptionError``."""
    given = vars(flags)
    values: dict[str, Any] = {}
    in_file, name_of_file = _read_file(given.get("config") or environment.get(_CONFIG))
    _refuse_unknown_keys(in_file, name_of_file)
    for option in all_options():
        for source, value in _offers(option, given, environment, in_file, name_of_file):
            try:
                values[option.target] = option.parse(value)
            except ValueError as error:
                shown = value[0] if isinstance(value, list) and len(value) == 1 else value
                raise OptionError(f"{source}: {shown!r}: {error}") from None
            break
    return _build(values, environment)


def unknown_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """A line for each variable that looks like one of ours and is none: it may be meant for somebody else."""
    known = {option.variable for option in all_options()} | _OTHERS
    return [
        f"{name} in the environment is no option{near(name, known)}"
        for name in sorted(environment)
        if name.startswith("FASTCHANNELS_") and name not in known
    ]


def _offers(
    option: Option, given: Mapping[str, Any], environment: Mapping[str, str], in_file: dict[str, Any], file: str
) -> Iterable[tuple[str, Any]]:
    """Source and value of each place that says something about ``option``, the strongest first."""
    if (value := given.get(option.name)) is not None:
        yield ("application" if option.name == "application" else f"--{option.name}"), value
    for name in (option.variable, *option.variables):
        if text := environment.get(name):
            yield f"{name} in the environment", text
    if option.name in in_file:
        yield f"{option.name} in {file}", in_file[option.name]


def _read_file(path: str | None) -> tuple[dict[str, Any], str]:
    """The options of the file, with dashes in their names, and how to call the file."""
    name = path or _PYPROJECT
    try:
        with Path(name).open("rb") as file:
            table = tomllib.load(file)
    except FileNotFoundError:
        if path is None:
            return {}, name
        raise OptionError(f"there is no file {name}, which --config names") from None
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except tomllib.TOMLDecodeError as error:
        raise OptionError(f"{name} is not TOML: {error}") from None
    if Path(name).name == _PYPROJECT:
        tools = table.get("tool", {})
        table = tools.get("fastchannels", {}) if isinstance(tools, dict) else {}
        name = f"[tool.fastchannels] of {name}"
    if not isinstance(table, dict):
        raise OptionError(f"{name}: a table is needed")
    return {key.replace("_", "-"): value for key, value in table.items()}, name


def _refuse_unknown_keys(in_file: dict[str, Any], name: str) -> None:
    known = {option.name: option for option in all_options()}
    spellings = {flag.lstrip("-").replace("_", "-"): option.name for option in known.values() for flag in option.flags}
    for key in in_file:
        if key in known:
            continue
        if key in spellings:
            raise OptionError(f"{name}: the key for {key!r} is {spellings[key]!r}")
        if f"--{key}" in ELSEWHERE:
            raise OptionError(f"{name}: there is no option {key!r}: {ELSEWHERE[f'--{key}']}")
        raise OptionError(f"{name}: there is no option {key!r}{near(key, known)}")


def _build(values: dict[str, Any], environment: Mapping[str, str]) -> tuple[Config, Launch]:
    """The two objects, once the options agree with each other."""
    if "host" in values:
        values.setdefault("port", 8000)
    if not any(name in values for name in ("port", "uds", "fd", "endpoints")):
        activated = range(len(activated_sockets(environment)))
        if activated:
            values["endpoints"] = [f"systemd:domain=INET:index={index}" for index in activated]
        else:
            values["port"] = 8000
    values.setdefault("port", None)
    values.setdefault("access_log", "-" if values.get("verbosity", 1) else None)
    for name in ("proxy_headers_host", "proxy_headers_port"):
        if name in values and not values.get("proxy_headers"):
            raise OptionError(f"--{name.replace('_', '-')} needs --proxy-headers")
    for name in ("ssl_keyfile", "ssl_keyfile_password", "ssl_ca_certs", "ssl_ciphers"):
        if name in values and "ssl_certfile" not in values:
            raise OptionError(f"--{name.replace('_', '-')} needs --ssl-certfile")
    if values.get("ssl_cert_reqs", "none") != "none" and "ssl_ca_certs" not in values:
        raise OptionError("--ssl-cert-reqs needs --ssl-ca-certs: who may sign the certificates of clients")
    if values.get("reload") and (values.get("workers") or 1) > 1:
        raise OptionError("--reload is for one process: leave --workers out")
    if values.get("http2") and not INSTALLED:
        raise OptionError("--http2 needs the package hpack: pip install fastchannels[http2]")
    limits = {name.partition(".")[2]: value for name, value in values.items() if name.startswith("limits.")}
    config = Config(**{name: value for name, value in values.items() if name in CONFIG_FIELDS})
    config.limits = config.limits._replace(**limits)
    launch_fields = {field.name for field in dataclasses.fields(Launch)}
    return config, Launch(**{name: value for name, value in values.items() if name in launch_fields})
