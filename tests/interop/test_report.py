"""The report, from results that were made up."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from interop.page import html
from interop.report import markdown, merged, publish, read_run, write_report
from interop.result import Outcome, Result, Run


def result(server="tercel", client="ngtcp2", case="handshake", **values):
    values.setdefault("outcome", Outcome.PASSED)
    return Result(server=server, client=client, case=case, **values)


RESULTS = Path(__file__).parents[2] / "interop" / "results"

RUN = Run(
    [
        result(seconds=0.51, logs="logs/tercel_ngtcp2/handshake"),
        result(case="ecn", outcome=Outcome.FAILED, reason='"no <marks> & so on"'),
        result(case="v2", outcome=Outcome.UNSUPPORTED, reason="ngtcp2 does not have it"),
        result(case="goodput", kilobits=8765.0, spread=(8654.0, 8800.0)),
        result(client="curl", case="http3", seconds=1.0),
        result(client="firefox", case="http3", outcome=Outcome.MISSING, reason="not installed"),
        result(server="nginx", client="tercel", case="transfer"),
        result(server="nginx", client="tercel", case="handshake"),
    ],
    {"ngtcp2": "1.24", "curl": "8.23"},
    "2026-01-02",
)


class Page(HTMLParser):
    """Fails on tags that do not match, and keeps what a test wants to see."""

    VOID = ("meta", "line", "rect")

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.titles = []
        self.links = []
        self.anchors = []
        self.text = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.titles.append(attributes.get("title") or "")
        if "id" in attributes:
            self.anchors.append("#" + attributes["id"])
        if tag == "a":
            self.links.append(attributes["href"])
        if tag not in self.VOID or tag == "rect":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def page():
    return Page(html(RUN, {RUN.results[0].key: [("client log", "logs/a&b/output.txt")]}))


def test_the_page_is_well_formed(page):
    assert page.open == []


def test_a_cell_says_more_when_it_is_pointed_at(page):
    assert "handshake: passed in 0.5 s" in page.titles
    assert 'ecn: failed ("no <marks> & so on")' in page.titles


def test_every_cell_leads_to_its_run_and_that_to_its_logs(page):
    inside = [link for link in page.links if link.startswith("#")]
    assert sorted(page.anchors) == sorted(f"#{'-'.join(cell.key)}" for cell in RUN.results)
    assert set(inside) <= set(page.anchors)
    assert "#tercel-ngtcp2-handshake" in inside
    assert [link for link in page.links if link not in inside] == ["logs/a&b/output.txt"]


def test_every_cell_that_is_not_green_has_its_reason(page):
    text = "".join(page.text)
    for cell in RUN.results:
        if cell.outcome is not Outcome.PASSED:
            assert cell.reason in text


def test_who_has_only_http3_is_listed_apart(page):
    text = "".join(page.text)
    assert "HTTP/3 clients" in text
    matrix = text[: text.index("HTTP/3 clients")]
    assert "ngtcp2" in matrix
    assert "curl" not in matrix


def test_goodput_is_drawn(page):
    assert "8.77" in "".join(page.text)


def test_an_empty_run_is_a_page_too():
    assert Page(html(Run([], {}, "2026-01-02"), {})).open == []


def test_the_markdown_twin_has_the_same(page):
    text = markdown(RUN)
    assert "| H handshake | ✓ |" in text
    assert "| G goodput | 8.77 (8.65 to 8.80) Mbit/s |" in text
    assert "| tercel | ngtcp2 | v2 | unsupported | ngtcp2 does not have it |" in text
    assert text.startswith("# QUIC interoperability\n\n2026-01-02: 5 passed, 1 failed")


def test_results_survive_their_file(tmp_path):
    assert read_run(tmp_path) is None
    (tmp_path / RUN.results[0].logs).mkdir(parents=True)
    write_report(RUN, tmp_path)
    assert read_run(tmp_path) == RUN
    assert json.loads((tmp_path / "results.json").read_text())["date"] == "2026-01-02"
    assert (tmp_path / "index.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "results.md").exists()


def test_the_page_links_to_what_a_run_has_left_and_to_nothing_else(tmp_path):
    logs = tmp_path / RUN.results[0].logs
    for name in ("client/logs/qlog", "server/logs/qlog", "captures"):
        (logs / name).mkdir(parents=True)
    (logs / "client/logs/output.txt").write_text("said")
    (logs / "server/logs/output.txt").write_text("")
    (logs / "client/logs/qlog/one.qlog").write_text("{}")
    for name in ("client.pcap", "server.pcap"):
        (logs / "captures" / name).write_bytes(b"packets")
    write_report(RUN, tmp_path)
    links = [link for link in Page((tmp_path / "index.html").read_text()).links if link[0] != "#"]
    place = RUN.results[0].logs
    assert links == [
        f"{place}/client/logs/output.txt",
        f"{place}/client/logs/qlog/one.qlog",
        f"{place}/captures/",
    ]
    shutil.rmtree(logs)
    write_report(RUN, tmp_path)
    assert all(link[0] == "#" for link in Page((tmp_path / "index.html").read_text()).links)


def test_what_is_published_has_no_links_to_logs(tmp_path):
    with pytest.raises(FileNotFoundError):
        publish(tmp_path)
    logs = tmp_path / RUN.results[0].logs / "client" / "logs"
    logs.mkdir(parents=True)
    (logs / "output.txt").write_text("said")
    write_report(RUN, tmp_path)
    publish(tmp_path)
    page = Page((tmp_path / "index.html").read_text())
    assert all(link[0] == "#" for link in page.links)
    assert "are not kept here" in "".join(page.text)
    assert "logs/" not in (tmp_path / "results.json").read_text()


def test_the_report_that_is_kept_leads_nowhere_that_is_not_there():
    """The last full run, in the repository."""
    run = read_run(RESULTS)
    page = Page((RESULTS / "index.html").read_text())
    assert set(page.links) <= set(page.anchors)
    assert len(page.anchors) == len(run.results)
    assert markdown(run) == (RESULTS / "results.md").read_text()


def test_what_did_not_pass_at_once_says_why():
    cell = result(reason="at first: nothing came", attempts=2, seconds=1.0)
    page = Page(html(Run([cell, result(case="transfer")], {}, "-"), {}))
    assert "handshake: passed (at first: nothing came)" in page.titles


def test_a_later_run_replaces_only_what_it_ran():
    later = Run([result(case="ecn")], {"nginx": "1.30"}, "2026-02-03")
    run = merged(RUN, later)
    assert len(run.results) == len(RUN.results)
    assert run.find("tercel", "ngtcp2", "ecn").outcome is Outcome.PASSED
    assert run.find("tercel", "ngtcp2", "v2").outcome is Outcome.UNSUPPORTED
    assert run.versions == {"ngtcp2": "1.24", "curl": "8.23", "nginx": "1.30"}
    assert run.date == "2026-02-03"
    assert merged(None, later) is later
