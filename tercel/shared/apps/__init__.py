"""Adapters from a RequestStream to an application interface, and the demo application."""
