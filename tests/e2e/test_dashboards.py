"""Dashboard and alerts ask for metrics that a daemon has, by labels that these have."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from runtime.web.metrics import METRICS, PREFIX
from tests.fakes.daemon_process import daemon_process
from tests.test_documents import ROOT, rows

pytestmark = pytest.mark.anyio
DASHBOARD = ROOT / "deploy/grafana/refreshd.json"
RULES = ROOT / "deploy/prometheus/refreshd.rules.yml"
OF_SCRAPES = {"job", "instance", "le"}
LABELS = {f"{PREFIX}{one.name}": set(one.labels) for one in METRICS}
_NAME = re.compile(r"\b(?:refreshd|process)_\w+")
_SELECTED = re.compile(r"\b((?:refreshd|process)_\w+)\{([^}]*)\}")
_GROUPED = re.compile(r"\bby \(([^)]*)\)")
_SHOWN = re.compile(r"\{\{\s*(?:\$labels\.)?(\w+)")
_ENDS = ("_total", "_bucket", "_count", "_sum")


def rules() -> list[dict[str, Any]]:
    return [one for group in yaml.safe_load(RULES.read_text())["groups"] for one in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [one for one in json.loads(DASHBOARD.read_text())["panels"] if one["type"] != "row"]


def expressions() -> Iterator[str]:
    for rule in rules():
        yield rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"]


def described(name: str) -> str:
    """Return the metric that a sample is of."""
    end = next((end for end in _ENDS if name.endswith(end)), "")
    return name if name in LABELS else name.removesuffix(end)


async def test_each_metric_that_they_name_a_daemon_has(tmp_path: Path) -> None:
    anywhere = {"REFRESHD_HTTP_LISTEN": "127.0.0.1:0"}
    async with (
        daemon_process(tmp_path, environment=anywhere) as daemon,
        httpx2.AsyncClient(base_url=daemon.http) as web,
    ):
        text = (await web.get("/metrics")).text

    has = {family.name: family for family in text_string_to_metric_families(text)}
    named = {name for text in expressions() for name in _NAME.findall(text)}
    assert named
    for name in named:
        family = has[described(name) if name.startswith(PREFIX) else name.removesuffix("_total")]
        is_counted = family.type == "counter"
        assert is_counted == name.endswith("_total"), name
        assert (family.type == "histogram") == name.endswith(("_bucket", "_count", "_sum")), name


def test_they_select_and_group_by_labels_that_the_metrics_have() -> None:
    for text in expressions():
        names = {described(name) for name in _NAME.findall(text) if name.startswith(PREFIX)}
        has = set[str]().union(*(LABELS[name] for name in names)) | OF_SCRAPES
        for grouped in _GROUPED.findall(text):
            assert {one.strip() for one in grouped.split(",")} <= has, text
        for name, selector in _SELECTED.findall(text):
            selected = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', selector))
            assert selected <= LABELS.get(described(name), set()) | OF_SCRAPES, text


def test_what_they_show_is_a_label_that_is_left() -> None:
    for rule in rules():
        left = {
            one.strip() for labels in _GROUPED.findall(rule["expr"]) for one in labels.split(",")
        }
        shown = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        assert shown <= left | ({"instance"} if not left else set()), rule["alert"]
    for panel in panels():
        for target in panel["targets"]:
            text = target["expr"]
            left = {one.strip() for labels in _GROUPED.findall(text) for one in labels.split(",")}
            assert set(_SHOWN.findall(target["legendFormat"])) <= left | OF_SCRAPES | {"kind"}


def test_each_alert_is_complete_and_has_its_line_in_the_docs() -> None:
    told = {row[0].strip("`") for row in rows("docs/monitoring.md", "Dashboard and alerts")}

    assert told == {rule["alert"] for rule in rules()}
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"].keys() == {"summary", "description"}


def test_brackets_of_each_expression_are_closed_and_panels_have_titles_of_their_own() -> None:
    for text in expressions():
        for opens, closes in ("()", "{}", "[]"):
            assert text.count(opens) == text.count(closes), text
    titles = [panel["title"] for panel in panels()]
    assert len(set(titles)) == len(titles)
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels())
