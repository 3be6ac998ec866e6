"""Bounds on packets that only acknowledge, and are not acknowledged themselves (RFC 9000 13.2.4).

Such a packet asks for no acknowledgement. A peer that sends, and has nothing to acknowledge, would
make its receiver remember ever more of them: 444 bytes for each. Now and then one of them asks, by
a PING. If that brings no answer either, the oldest are forgotten, which costs nothing but that a
later ACK may repeat what they told.
"""

from itertools import islice

from aioquic.quic.recovery import QuicPacketSpace

# Packets after which an acknowledgement is asked for, if nothing under way asks already.
ASK_AFTER_PACKETS = 32
# What may be remembered of packets that do not ask for one.
MAX_UNACKNOWLEDGED_PACKETS = 128


def is_answer_due(space: QuicPacketSpace) -> bool:
    """Whether the next packet that acknowledges is to ask for an acknowledgement."""
    return len(space.sent_packets) >= ASK_AFTER_PACKETS and not space.ack_eliciting_in_flight


def forget_oldest(space: QuicPacketSpace) -> bool:
    """Forget the older half of what asks for no acknowledgement if that is too much; if it was."""
    sent = space.sent_packets
    if len(sent) - space.ack_eliciting_in_flight <= MAX_UNACKNOWLEDGED_PACKETS:
        return False
    # What is in flight, as padding is, counts for congestion control until it is lost.
    silent = (
        number
        for number, packet in sent.items()
        if not (packet.is_ack_eliciting or packet.in_flight)
    )
    for number in list(islice(silent, MAX_UNACKNOWLEDGED_PACKETS // 2)):
        del sent[number]
    return True
