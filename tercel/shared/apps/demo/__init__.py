"""The demo application: what is served when no application is named."""

from tercel.shared.apps.demo.endpoints import app

__all__ = ["app"]
