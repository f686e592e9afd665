"""The page about the threat model names options, defaults and tests that exist."""

import ast
import re

import attrs
import pytest

import streamws
from helpers.blocks import ROOT, examples

PAGE = (ROOT / "docs" / "topics" / "threat-model.md").read_text("utf-8")
ROWS = re.findall(r"^\| (?P<attack>[^|]+) \| (?P<advisory>[^|]+) \| (?P<test>[^|]+) \|$", PAGE, re.MULTILINE)
CASES = [row for row in ROWS if row[0] != "attack"]
ADVISORY = re.compile(r"(?:CVE-\d{4}-\d{4,}|GHSA(?:-[0-9a-z]{4}){3}|[\w./-]+, issue \d+)(?: \([\w./-]+\))?")


def shown(value: object) -> str:
    """Return a default as the page writes it."""
    if value is None:
        return "no limit"
    if isinstance(value, float):
        return f"{value:g} s"
    assert isinstance(value, int)
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if value >= unit and value % unit == 0 and value > 1024:
            return f"{value // unit} {name}"
    return str(value)


def test_page_names_every_limit_and_deadline_with_its_default() -> None:
    text = " ".join(PAGE.split())
    named = dict(re.findall(r"`((?:Limits|Timeouts)\.\w+)` \(([^)]+)\)", text))
    defaults = {
        f"{options.__name__}.{field.name}": shown(getattr(options(), field.name))
        for options in (streamws.Limits, streamws.Timeouts)
        for field in attrs.fields(options)
        if not field.name.endswith(("_low", "write_high"))  # water marks, which do not bound memory by themselves
    }
    assert named == defaults


def test_page_names_an_advisory_and_a_test_for_each_attack() -> None:
    assert len(CASES) >= 30
    for attack, advisory, _ in CASES:
        assert ADVISORY.fullmatch(advisory), attack
    advisories = [advisory for _, advisory, _ in CASES]
    assert len(set(advisories)) == len(advisories)


@pytest.mark.parametrize("test", [test for _, _, test in CASES])
def test_every_test_that_the_page_names_exists(test: str) -> None:
    match = re.fullmatch(r"`([\w/]+\.py)::(test_\w+)`", test)
    assert match is not None
    source = (ROOT / "tests" / match[1]).read_text("utf-8")
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert match[2] in [node.name for node in ast.parse(source).body if isinstance(node, functions)]


def test_programs_compare_secrets_in_constant_time() -> None:
    """The programs of the documentation compare secrets in constant time. The library itself compares no secrets."""
    checking = [example for example in examples() if 'get("Authorization"' in example.source]
    assert checking
    for example in checking:
        assert "hmac.compare_digest(" in example.source
        assert not re.search(r"(?:==|!=) (?:TOKEN|PASSWORD|SECRET)", example.source), example.id
