"""Bounds on packets that are not ack-eliciting, which the peer need not acknowledge.

An endpoint that only receives sends packets with nothing but ACK frames, and would remember ever
more of them (RFC 9000 13.2.4): 444 bytes for each. Therefore an occasional one elicits an
acknowledgement by a PING. If that is not answered either, the oldest are forgotten; the only effect
is that a later ACK may repeat what they reported.
"""

from itertools import islice

from aioquic.quic.recovery import QuicPacketSpace

# Packets after which an acknowledgement is asked for, if nothing under way asks already.
ASK_AFTER_PACKETS = 32
# What may be remembered of packets that do not ask for one.
MAX_UNACKNOWLEDGED_PACKETS = 128


def is_answer_due(space: QuicPacketSpace) -> bool:
    """Whether the next packet with an ACK is to be made ack-eliciting."""
    return len(space.sent_packets) >= ASK_AFTER_PACKETS and not space.ack_eliciting_in_flight


def forget_oldest(space: QuicPacketSpace) -> bool:
    """Forget the older half of non-ack-eliciting packets if they are too many; whether it did."""
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
