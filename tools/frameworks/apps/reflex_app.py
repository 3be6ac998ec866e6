"""Reflex's backend: its frontend is built by Node.js and served as files."""

import reflex


class State(reflex.State):
    """A counter."""

    count: int = 0

    @reflex.event
    def increment(self) -> None:
        self.count += 1


def index() -> reflex.Component:
    """The page."""
    return reflex.text(State.count)


app_of_reflex = reflex.App()
app_of_reflex.add_page(index)
app = app_of_reflex()
