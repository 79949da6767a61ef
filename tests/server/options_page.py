"""The tables of docs/server.md, made from the table of options. As a program it writes them into the page."""

from __future__ import annotations

from pathlib import Path

from fastchannels.server.options import ELSEWHERE, OPTIONS, Option

PAGE = Path(__file__).resolve().parents[2] / "docs" / "server.md"
_BEGIN, _END = "<!-- options: begin -->\n", "<!-- options: end -->\n"


def tables() -> str:
    """Each heading with its options, then the names of uvicorn that lead elsewhere."""
    lines = []
    for heading, options in OPTIONS.items():
        lines += [f"### {heading}", "", "| flag | default | |", "|---|---|---|"]
        lines += [_row(option) for option in options]
        lines.append("")
    lines += ["### Names of uvicorn that lead elsewhere", "", "| flag | instead |", "|---|---|"]
    lines += [f"| `{flag}` | {_cell(instead)} |" for flag, instead in ELSEWHERE.items()]
    return "\n".join(lines) + "\n"


def _row(option: Option) -> str:
    flags = ["module:attribute"] if option.name == "application" else [*option.flags, *option.off_flags]
    told = option.help + "".join(f"; also `{name}` in the environment" for name in option.variables)
    default = option.default_text.partition("; off by")[0]
    return f"| {' '.join(f'`{flag}`' for flag in flags)} | {_cell(default)} | {_cell(told)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def split(page: str) -> tuple[str, str, str]:
    """What is before, in, and after the tables."""
    before, _, rest = page.partition(_BEGIN)
    inside, _, after = rest.partition(_END)
    return before + _BEGIN, inside, _END + after


if __name__ == "__main__":
    before, _, after = split(PAGE.read_text())
    PAGE.write_text(f"{before}\n{tables()}\n{after}")
