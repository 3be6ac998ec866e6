"""The server's farewell message after it has stopped."""

import random

_FAREWELLS = (
    "Goodbye.",
    "Ade.",
    "Adieu.",
    "Adiós.",
    "Arrivederci.",
    "Auf Wiedersehen.",
    "Do widzenia.",
    "Hwyl fawr.",
    "Slán.",
    "Tot ziens.",
    "さようなら。",
)


def get_goodbye() -> str:
    """A farewell in one language or another."""
    return random.choice(_FAREWELLS)  # noqa: S311  nothing secret about it
