"""WebSockets of Debian's Chromium, over TLS on HTTP/1.1: the demo's chat and echo."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.chromium import chromium, quiet_pages, trusting
from tests.support.process import ServerProcess

ECHO = """async (url) => {
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    const come = [];
    let more = null;
    socket.onmessage = (message) => { come.push(message.data); if (more) more(); };
    const ended = new Promise((resolve) => { socket.onclose = resolve; });
    await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });
    const random = new Uint8Array(3000000);
    for (let at = 0; at < random.length; at += 50000)
        crypto.getRandomValues(random.subarray(at, at + 50000));
    const sent = ["hello", "", "\\u20ac".repeat(100000), random.buffer, new ArrayBuffer(0)];
    for (let number = 0; number < 1000; number += 1) sent.push(String(number));
    for (const message of sent) socket.send(message);
    while (come.length < sent.length) await new Promise((resolve) => { more = resolve; });
    const same = (one, other) => typeof one === "string" ? one === other :
        one.byteLength === other.byteLength &&
        new Uint8Array(one).every((byte, at) => byte === new Uint8Array(other)[at]);
    const equal = sent.every((message, number) => same(message, come[number]));
    socket.close(3456, "enough");
    const end = await ended;
    return {
        equal, extension: socket.extensions.split(";")[0],
        code: end.code, reason: end.reason, clean: end.wasClean,
    };
}"""


@pytest.fixture
def new_page(
    demo: ServerProcess, data_directory: Path, tmp_path: Path
) -> Iterator[Callable[[], Page]]:
    """Makes pages of one browser, each at the chat."""
    with (
        chromium(tmp_path, [trusting(data_directory)]) as context,
        quiet_pages(context) as empty_page,
    ):

        def make() -> Page:
            page = empty_page()
            page.goto(f"{demo.url}/chat")
            return page

        yield make


def test_chromium_echoes_messages_of_every_kind_with_compression(
    new_page: Callable[[], Page], demo: ServerProcess
) -> None:
    page = new_page()
    url = f"{demo.url}/ws/echo".replace("https", "wss")
    assert page.evaluate(ECHO, url) == {
        "equal": True,
        "extension": "permessage-deflate",
        "code": 3456,
        "reason": "enough",
        "clean": True,
    }


def join(page: Page, name: str) -> None:
    page.fill("#chat-name", name)
    page.click("#chat-enter")
    expect(page.locator("#chat-line")).to_be_enabled()


def test_two_windows_chat(new_page: Callable[[], Page]) -> None:
    ann, bob = new_page(), new_page()
    join(ann, "Ann")
    join(bob, "Bob <b>")
    expect(ann.locator("#chat-status")).to_have_text("In the room: 2.")
    bob.fill("#chat-line", "hello <i>Ann</i>")
    bob.press("#chat-line", "Enter")
    for page in (ann, bob):
        last = page.locator("#chat-log li").last
        expect(last).to_contain_text("Bob <b> hello <i>Ann</i>")
        assert "HTTP/1.1" in (last.get_attribute("title") or "")
    expect(bob.locator("#chat-log .own")).to_have_count(1)
    expect(ann.locator("#chat-log .own")).to_have_count(0)
    bob.click("#chat-leave")
    expect(bob.locator("#chat-status")).to_have_text("Not in the room.")
    expect(ann.locator("#chat-status")).to_have_text("In the room: 1.")
    # Whoever comes later reads what was said before.
    join(bob, "Bob again")
    expect(bob.locator("#chat-log li").first).to_contain_text("hello <i>Ann</i>")


def test_the_chat_fits_a_narrow_screen(new_page: Callable[[], Page]) -> None:
    page = new_page()
    page.set_viewport_size({"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    join(page, "Ann")
    page.fill("#chat-line", "x" * 300)
    page.click("#chat-send")
    expect(page.locator("#chat-log li").last).to_contain_text("xxx")
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    # The room scrolls, and the line to write stays in view.
    assert page.evaluate("document.documentElement.scrollHeight") == 640
    expect(page.locator("#chat-line")).to_be_in_viewport()
