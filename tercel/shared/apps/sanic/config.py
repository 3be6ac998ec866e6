"""What a Sanic application's `app.config` says in terms of Settings."""

from dataclasses import fields, replace
from typing import Any

from tercel.shared.apps.sanic.types import SanicApp
from tercel.shared.settings import Settings

# Sanic counts the bytes of a head as sent, Settings 32 more for each field: room for them, so that
# nothing is refused that Sanic would take.
_FIELD_OVERHEAD_BYTES = 32
_LARGEST_HEAD_BYTES = 16_384
_LEAST_SECONDS = 0.001


def configured(settings: Settings, app: SanicApp) -> Settings:
    """`settings` where the operator has changed them, and `app.config` where he has not."""
    changes = {
        name: value
        for name, value in _from_config(app.config, settings).items()
        if getattr(settings, name) == _DEFAULTS[name]
    }
    return replace(settings, **changes)


def _from_config(config: Any, settings: Settings) -> dict[str, Any]:
    seconds = max(config.REQUEST_TIMEOUT, _LEAST_SECONDS)
    head = min(config.REQUEST_MAX_HEADER_SIZE, _LARGEST_HEAD_BYTES)
    values: dict[str, Any] = {
        "header_timeout": seconds,
        "content_timeout": seconds,
        "keep_alive_timeout": config.KEEP_ALIVE_TIMEOUT if config.KEEP_ALIVE else 0.0,
        "graceful_timeout": config.GRACEFUL_SHUTDOWN_TIMEOUT,
        "max_field_section_bytes": max(
            head + _FIELD_OVERHEAD_BYTES * settings.max_fields, _least("max_field_section_bytes")
        ),
        "max_receive_buffer_bytes": max(
            config.REQUEST_BUFFER_SIZE, _least("max_receive_buffer_bytes")
        ),
        "ws_max_message_bytes": config.WEBSOCKET_MAX_SIZE or _UNLIMITED_BYTES,
        "ws_ping_interval": config.WEBSOCKET_PING_INTERVAL or 0.0,
        "ws_ping_timeout": config.WEBSOCKET_PING_TIMEOUT or 0.0,
    }
    if config.ACCESS_LOG:
        # The lines are Sanic's then, in the application's own format.
        values["access_log"] = False
    if config.TLS_CERT_PASSWORD:
        values["key_password"] = config.TLS_CERT_PASSWORD
    return values


_DEFAULTS = {spec.name: spec.default for spec in fields(Settings)}
_MINIMA = {spec.name: spec.metadata["minimum"] for spec in fields(Settings)}
_UNLIMITED_BYTES = (1 << 63) - 1


def _least(name: str) -> int:
    return int(_MINIMA[name])
