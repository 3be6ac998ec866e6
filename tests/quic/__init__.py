"""HTTP/3 over QUIC: from field sections to a real endpoint on loopback."""
