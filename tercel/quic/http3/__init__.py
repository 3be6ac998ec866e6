"""HTTP/3 (RFC 9114, RFC 9204): streams of a QUIC connection <-> exchanges."""
