"""What several test modules use. Only `h3_client` imports a transport."""
