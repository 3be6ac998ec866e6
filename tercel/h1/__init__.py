"""HTTP/1.1 (RFC 9112): the fallback on TCP and unix sockets."""
