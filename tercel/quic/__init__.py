"""HTTP/3 over QUIC (RFC 9114, RFC 9000), the primary transport. Only this package uses aioquic."""
