"""The QUIC interop runner's endpoint, and the same test cases on one machine without Docker."""
