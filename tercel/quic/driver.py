"""Drives one QUIC connection: datagrams and timers in, events to a subclass, datagrams out.

Knows no HTTP. The endpoint owns the sockets and timers of the operating system.
"""

import logging
from typing import Any, Protocol

from aioquic.quic import events
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from tercel.quic.transport.connection import QuicServerConnection
from tercel.shared.connection import ServerContext
from tercel.shared.connection_info import ConnectionInfo
from tercel.shared.logs import logger

log = logger("tercel.quic")

# How long an acknowledgement may wait in the socket to be read, and how often it is looked again:
# a server that is behind takes many batches in that time, so one that has taken none is not.
_UNREAD_SECONDS = 1.0
_LOOK_SECONDS = 0.1

# What is used less of a budget is not worth a word.
_LEAST_PEAK = 0.01


class Endpoint(Protocol):
    """What a connection asks of the endpoint that owns its socket."""

    @property
    def behind_at(self) -> float:
        """Time of the last full receive batch."""

    def add_connection_id(self, cid: bytes, connection: Any) -> None:
        """Route datagrams for `cid` to `connection`."""

    def remove_connection_id(self, cid: bytes) -> None:
        """Stop routing datagrams for `cid`."""

    def connection_terminated(self, connection: Any) -> None:
        """Forget a connection."""

    def connection_drains(self, connection: Any, until: float) -> None:
        """Drop, unanswered, datagrams for a connection that is about to be forgotten."""

    def drained_soon(self, connection: Any) -> None:
        """Check again whether shutdown has to wait."""

    def flush_soon(self, connection: Any) -> None:
        """Let `connection` transmit at the end of this loop iteration."""

    def give_up(self, connection: Any, error: Exception) -> None:
        """Forget a connection after a defect of the server or a shortage of memory."""

    def send(self, datagrams: list[tuple[bytes, Any]], mark: int = 0) -> bool:
        """Send datagrams with their paths; returns whether `mark` can be set as their ECN field."""


class ConnectionProtocol:
    """Drives one QUIC connection: datagrams and timers in, datagrams out.

    The endpoint calls `receive_datagram` for each datagram of a batch, then `process_events` once,
    then, if that `needs_transmit`, `transmit` once at the end of the loop iteration.
    """

    def __init__(
        self,
        quic: QuicServerConnection,
        *,
        endpoint: Endpoint,
        context: ServerContext,
        info: ConnectionInfo,
    ) -> None:
        self.quic = quic
        self.endpoint = endpoint
        self.context = context
        self.info = info
        self.terminated = False
        self.answering = False
        """Whether an application may do something about what came since the last `transmit`, when
        its turn comes."""
        self._timer: Any = None
        self._timer_at = 0.0
        self._handshake_deadline = context.clock() + context.settings.handshake_timeout

    def receive_datagram(self, data: bytes, path: Any, now: float, mark: int = 0) -> None:
        """Take one datagram that arrived on `path`; `mark` is its ECN field."""
        self.quic.arriving_mark = mark
        self.quic.receive_datagram(data, path, now)

    def process_events(self) -> None:
        """Handle the events that datagrams or a timer caused."""
        while (event := self.quic.next_event()) is not None:
            if type(event) is events.StreamDataReceived:
                self.quic_event_received(event)  # nearly all are
            elif isinstance(event, events.ConnectionIdIssued):
                self.endpoint.add_connection_id(event.connection_id, self)
            elif isinstance(event, events.ConnectionIdRetired):
                self.endpoint.remove_connection_id(event.connection_id)
            else:
                self.quic_event_received(event)
                if isinstance(event, events.ConnectionTerminated):
                    self._terminate()
        closing = self.quic.close_event
        if closing is not None and not self.terminated:
            # Told now, not when the closing period is over: nothing will be delivered any more.
            self.quic_event_received(closing)
            until = self.quic.drains_until
            if until is not None:
                # RFC 9000 10.2: nothing may be sent any more, so that nothing is worth keeping but
                # the knowledge of that. With a timer for the end it took 4 % of a short connection.
                self.quic.abandon()
                self.endpoint.connection_drains(self, until)
                self._terminate()

    def quic_event_received(self, event: events.QuicEvent) -> None:
        """Handle one QUIC event."""

    def needs_transmit(self) -> bool:
        """Whether `transmit` may have anything to do after `process_events`."""
        return True

    def transmit(self) -> None:
        """Send pending datagrams, and set the timer."""
        if self.terminated:
            return
        now = self.context.clock()
        datagrams = self.quic.datagrams_to_send(now)
        if datagrams:
            if not self.endpoint.send(datagrams, self.quic.departing_mark):
                self.quic.stop_marking()
            if self.quic.has_events():
                # The peer may use the connection IDs that are issued in them at once.
                self.process_events()
        self._set_timer(now)

    def close(self, code: int, reason: str = "") -> None:
        """Send CONNECTION_CLOSE with an application error code (RFC 9000 19.19)."""
        self.quic.close(error_code=code, reason_phrase=reason)
        self.endpoint.flush_soon(self)

    def send_ping(self) -> None:
        """Send a PING, so that neither side times out as idle (RFC 9000 10.1.2)."""
        self.quic.send_ping(0)
        self.endpoint.flush_soon(self)

    def refuse(self, reason: str) -> None:
        """Refuse a client whose handshake has completed, and forget it (RFC 9000 20.1)."""
        while self.quic.next_event() is not None:
            pass  # whatever came along with the end of the handshake is not served
        self.quic.close(QuicErrorCode.CONNECTION_REFUSED, QuicFrameType.PADDING, reason)
        self.transmit()
        self.abandon()

    def abandon(self) -> None:
        """Forget the connection without notifying the peer."""
        if not self.terminated:
            self.quic_event_received(
                events.ConnectionTerminated(QuicErrorCode.NO_ERROR, None, "abandoned")
            )
            self.quic.abandon()
            self._terminate()

    def _terminate(self) -> None:
        self.terminated = True
        self._log_budgets()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.endpoint.connection_terminated(self)

    def _log_budgets(self) -> None:
        """Log how close the client came to the abuse limits."""
        if log.isEnabledFor(logging.DEBUG):
            peaks = self.quic.budgets.peaks().items()
            used = [f"{flood.name} {peak:.0%}" for flood, peak in peaks if peak > _LEAST_PEAK]
            log.debug("%s: peaks of budgets: %s", self.info.client_name, ", ".join(used) or "none")

    def _set_timer(self, now: float) -> None:
        timer_at = self.quic.get_timer()
        if not self.quic.handshake_completed:
            timer_at = min(timer_at or self._handshake_deadline, self._handshake_deadline)
        if timer_at is None:
            return
        # A timer that fires early is set again then: cheaper than one cancelled per datagram.
        if self._timer is not None:
            if self._timer_at <= timer_at:
                return
            self._timer.cancel()
        self._set_timer_to(timer_at, now)

    def _set_timer_to(self, timer_at: float, now: float) -> None:
        self._timer_at = timer_at
        self._timer = self.context.loop.call_later(max(0.0, timer_at - now), self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        try:
            self._act_on_time()
        except Exception as error:
            # Without its timer it would stay for ever, should the client have gone.
            self.endpoint.give_up(self, error)

    def _act_on_time(self) -> None:
        now = self.context.clock()
        if not self.quic.handshake_completed and now >= self._handshake_deadline:
            # RFC 9000 10.1 leaves it open how long; no CONNECTION_CLOSE to who may not be there.
            log.debug("handshake with %s not completed in time", self.info.client_name)
            self.abandon()
            return
        timer_at = self.quic.get_timer()
        if timer_at is not None and now < timer_at:
            # What it was set for has been put off since: an acknowledgement came, for instance.
            self._set_timer(now)
            return
        if timer_at is not None:
            if self._may_be_unread(timer_at, now):
                self._set_timer_to(now + _LOOK_SECONDS, now)
                return
            self.quic.handle_timer(now)
            self.process_events()
        self.transmit()

    def _may_be_unread(self, timer_at: float, now: float) -> bool:
        """Whether the acknowledgement due by `timer_at` may have arrived, but was not read yet.

        With a thousand clients that all wait for an answer it mostly has: there were 0.13
        unnecessary probes for each request.
        """
        return (
            now < self.endpoint.behind_at + _LOOK_SECONDS
            and now < timer_at + _UNREAD_SECONDS
            and self.quic.is_loss_timer(timer_at)
        )
