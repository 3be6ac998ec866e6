"""tercel from its command line, and other people's clients and frameworks."""
