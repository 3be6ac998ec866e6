"""What holds for every HTTP version: the same cases on HTTP/1.1 over TLS and on HTTP/3."""
