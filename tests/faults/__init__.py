"""Bad networks, clients that die and clocks that jump."""
