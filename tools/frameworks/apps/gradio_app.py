"""Gradio on FastAPI: its page, the page's files, a call with its events."""

import gradio
from fastapi import FastAPI


def greet(name: str) -> str:
    """What the page's button calls."""
    return f"hello {name}"


demo = gradio.Interface(greet, "text", "text", api_name="greet")
app = gradio.mount_gradio_app(FastAPI(), demo, path="/")
