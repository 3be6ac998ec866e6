"""tercel: an HTTP/3-first application server for Python."""
