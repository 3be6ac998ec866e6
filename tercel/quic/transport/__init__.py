"""QUIC (RFC 9000, 9001, 9002) for a server, on aioquic's parts. Sans-I/O; knows no HTTP."""
