"""What a program can check of the documents: links, code that compiles, flags, options of layers, settings."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

import pytest

from fastchannels import cli, conf
from fastchannels.layers.local import LocalChannelLayer
from fastchannels.layers.memory import InMemoryChannelLayer
from fastchannels.layers.redis import RedisChannelLayer, RedisCompatChannelLayer
from fastchannels.management.commands import runserver, runworker
from fastchannels.server.options import ELSEWHERE
from fastchannels.server.sources import known_flags

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]*)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_every_page_is_named_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert [page.name for page in PAGES[1:] if f"({page.relative_to(ROOT)})" not in text] == []


@pages
def test_python_compiles(page: Path) -> None:
    text = page.read_text()
    indented = re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.M)
    code = [block for block in indented if re.match(r"\s*(?:from|import|def|class|@|\w+ = )", block)]
    for block in [*re.findall(r"```python\n(.*?)```", text, re.S), *code]:
        ast.parse(textwrap.dedent(block))


@pytest.mark.parametrize(
    "page", ["README.md", "docs/consumers.md", "docs/deployment.md", "docs/operations.md", "docs/server.md"]
)
def test_flags_exist(page: str) -> None:
    worker = cli.Parser()
    cli._worker_arguments(worker)
    known = {*known_flags(), *ELSEWHERE, *worker._option_string_actions}
    for command in (runserver.Command(), runworker.Command()):
        known |= {*command.create_parser("manage.py", "run")._option_string_actions}
    named = set(re.findall(r"(?<=[` ])--[a-z](?:[\w-]*\w)(?!-)", (ROOT / page).read_text()))
    assert named - known == set()


def test_options_of_the_layers() -> None:
    table = (ROOT / "README.md").read_text().partition("| CONFIG option |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table.splitlines()[2:])))
    layers = (InMemoryChannelLayer, LocalChannelLayer, RedisChannelLayer, RedisCompatChannelLayer)
    assert named == set().union(*(layer.option_names() for layer in layers))


def test_settings() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    ours = {value for name, value in vars(conf).items() if name.startswith("SETTING_")}
    assert {name for name in ours if f"`{name}`" not in page} == set()
    assert {name for name in re.findall(r"FASTCHANNELS_\w+", page) if name not in ours} == set()


def test_settings_are_named_in_one_place() -> None:
    """So that the test above sees all of them. The server's variables are options, and have their own table."""
    for path in sorted((ROOT / "fastchannels").rglob("*.py")):
        if path.name != "conf.py" and path.parent.name != "server":
            assert not re.search(r'"FASTCHANNELS_\w+"', path.read_text()), path
