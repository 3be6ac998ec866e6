"""Certificates for both TLS stacks: loading, checking, and a development CA."""
