"""WebSockets: every case over an Upgrade on HTTP/1.1, with and without TLS, and over HTTP/3."""
