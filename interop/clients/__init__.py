"""HTTP/3 clients that need a few lines of their own to download a list of URLs."""
