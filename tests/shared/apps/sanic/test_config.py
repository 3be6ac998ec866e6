"""What `app.config` comes to in terms of Settings."""

from typing import Any

import pytest

pytest.importorskip("sanic")

from sanic import Sanic

from tercel.shared.apps.sanic.config import configured
from tercel.shared.settings import Settings


def settings_for(settings: Settings | None = None, **config: Any) -> Settings:
    Sanic._app_registry.pop("configured", None)
    app: Sanic[Any, Any] = Sanic("configured")
    app.config.update(config)
    return configured(settings or Settings(), app)


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        ({"REQUEST_TIMEOUT": 7}, "header_timeout", 7),
        ({"REQUEST_TIMEOUT": 0}, "header_timeout", 0.001),
        ({"KEEP_ALIVE_TIMEOUT": 9}, "keep_alive_timeout", 9),
        ({"KEEP_ALIVE": False}, "keep_alive_timeout", 0),
        ({"GRACEFUL_SHUTDOWN_TIMEOUT": 3.5}, "graceful_timeout", 3.5),
        ({"REQUEST_BUFFER_SIZE": 8192}, "max_receive_buffer_bytes", 8192),
        ({"REQUEST_BUFFER_SIZE": 1}, "max_receive_buffer_bytes", 4096),
        ({"WEBSOCKET_MAX_SIZE": 1000}, "ws_max_message_bytes", 1000),
        ({"WEBSOCKET_PING_INTERVAL": None}, "ws_ping_interval", 0),
        ({"WEBSOCKET_PING_TIMEOUT": 5}, "ws_ping_timeout", 5),
        ({"ACCESS_LOG": True}, "access_log", False),
        ({"ACCESS_LOG": False}, "access_log", True),
        ({"TLS_CERT_PASSWORD": "open"}, "key_password", "open"),
    ],
)
def test_config_is_taken_over(config: dict[str, Any], name: str, value: Any) -> None:
    assert getattr(settings_for(**config), name) == value


def test_what_the_operator_has_set_stays() -> None:
    operators = Settings(keep_alive_timeout=1, graceful_timeout=2)
    merged = settings_for(operators, KEEP_ALIVE_TIMEOUT=50, GRACEFUL_SHUTDOWN_TIMEOUT=60)
    assert (merged.keep_alive_timeout, merged.graceful_timeout) == (1, 2)


def test_head_that_sanic_would_take_is_not_refused() -> None:
    settings = settings_for(REQUEST_MAX_HEADER_SIZE=4096)
    # As many fields as there may be, the bytes of all together being 4096.
    counted = 4096 + 32 * settings.max_fields
    assert settings.max_field_section_bytes >= counted
    assert settings_for(REQUEST_MAX_HEADER_SIZE=10**9).max_field_section_bytes <= 16_384 * 2
