"""HTTP/3 over QUIC (RFC 9114, RFC 9000): the primary transport. The only package that knows aioquic."""
