"""An exchange upgraded to a byte stream, by 101 (RFC 9110 7.8) or extended CONNECT (RFC 9220).

Reuses the exchange's parts: its content buffer holds the received bytes, so flow control follows
the receiver, and its write gate holds writers back.
"""

import asyncio
from typing import Final

from tercel.shared.bytestream import ByteReceiver, ByteStream, UpgradedExchange
from tercel.shared.errors import ResetReason, ServerError
from tercel.shared.messages import Fields
from tercel.shared.stream import RequestHandler, RequestStream, SendState

# See tercel.shared.stream: a member found by its class costs 0.12 us on Python 3.11.
_CONTENT: Final = SendState.CONTENT


def upgrade(stream: RequestStream, fields: Fields, receiver: ByteReceiver) -> ByteStream:
    """Accept the protocol that the client asked for; its bytes go to `receiver` from now on.

    `fields` are the response's, the protocol's own included. Raises LocalProtocolError when no
    upgrade was requested or the response has begun, StreamAborted when the client has gone.
    """
    stream.accept_upgrade(fields)
    upgraded = UpgradedStream(stream, receiver)
    stream.handler = stream.upgraded = upgraded
    # The receiver is not ready before this returns.
    asyncio.get_running_loop().call_soon(upgraded.begin)
    return upgraded


class UpgradedStream(UpgradedExchange, RequestHandler):
    """The handler of an exchange after its upgrade: passes bytes, in order, to `receiver`."""

    def __init__(self, stream: RequestStream, receiver: ByteReceiver) -> None:
        self.connection = stream.connection
        self._stream = stream
        self._receiver = receiver
        self._paused = False
        self._eof_passed_on = False
        self.closed = False
        self._lost = False

    # -- ByteStream -----------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        stream = self._stream
        if not self.closed and stream.send_state is _CONTENT and stream.aborted is None and data:
            stream.write_upgraded(data)

    @property
    def writable(self) -> bool:
        return self._stream.writable

    @property
    def unsent(self) -> int:
        return self._stream.unsent

    async def drain(self) -> None:
        await self._stream.drain()

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            asyncio.get_running_loop().call_soon(self.deliver)

    def write_eof(self) -> None:
        if self._can_write():
            self._stream.send_content(b"", end_stream=True)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._stream.close_upgraded()

    def abort(self) -> None:
        self.closed = True
        self._stream.reset(ResetReason.REQUEST_CANCELLED)

    # -- RequestHandler -------------------------------------------------------------------------

    def content_received(self) -> None:
        self.deliver()

    def message_complete(self) -> None:
        self.deliver()

    def aborted(self, error: ServerError) -> None:
        self._deliver_rest()

    def response_aborted(self, error: ServerError) -> None:
        self._deliver_rest()

    def going_away(self) -> None:
        self._receiver.going_away()

    # -- the connection's side --------------------------------------------------------------------

    def pass_on(self, data: bytes) -> bool:
        if self._paused or self._stream.content.size:
            return False
        self._receiver.data_received(data)
        return True

    def begin(self) -> None:
        """Tell the receiver about events that came before it was set."""
        protocol = self.connection.protocol
        if protocol is not None and protocol.going_away:
            self._receiver.going_away()
        self.deliver()

    def deliver(self) -> None:
        """Pass on the received bytes, until the receiver pauses."""
        content = self._stream.content
        while not self._paused and not self._lost and (data := content.take()):
            self._receiver.data_received(data)
        if content.ended and not content.size and not self._paused:
            self._pass_on_eof()

    def lost(self, error: ServerError | None) -> str:
        self._lost = True
        # It knows this stream: a ring, which would stay until the garbage collector comes.
        receiver, self._receiver = self._receiver, _NOBODY
        self._stream.upgraded = None
        receiver.connection_lost(error)
        return receiver.ending(error)

    def _deliver_rest(self) -> None:
        # The peer sent it before it went; a receiver that paused gets it all the same, or never.
        while not self.closed and (data := self._stream.content.take()):
            self._receiver.data_received(data)

    def _pass_on_eof(self) -> None:
        if not self._eof_passed_on and not self._lost:
            self._eof_passed_on = True
            self._receiver.eof_received()

    def _can_write(self) -> bool:
        return not self.closed and self._stream.can_send_content


class _Nobody(ByteReceiver):
    """The receiver after the end: ignores all calls."""

    def data_received(self, data: bytes) -> None:
        pass

    def eof_received(self) -> None:
        pass

    def connection_lost(self, error: ServerError | None) -> None:
        pass

    def going_away(self) -> None:
        pass


_NOBODY = _Nobody()
