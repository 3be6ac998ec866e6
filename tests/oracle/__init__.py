"""The wire oracle: one conversation with aioquic's server and with tercel's, side by side.

A scripted client plays the same packets to both, in virtual time. What they send is decrypted and
compared, and so is what their application sees. Nothing here shares code with `tercel.quic`: the
client, its packets and its frames are the oracle's own, on aioquic's TLS and packet protection.
"""
