"""What several test modules use. Imports no transport."""
