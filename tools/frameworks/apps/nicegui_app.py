"""NiceGUI on FastAPI: its page, the page's files, its Socket.IO."""

from fastapi import FastAPI
from nicegui import ui

app = FastAPI()


@ui.page("/")
def page() -> None:
    ui.label("hello from NiceGUI")


ui.run_with(app)
