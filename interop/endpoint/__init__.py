"""What the QUIC interop runner starts in its container: tercel as a server, and a client."""
