"""Serves the shop in a process of its own: `python -m tests.sanic.server HOW PORT PEM EVENTS`.

HOW is sanic for its own server, tercel for `tercel.serve`, installed for `app.run` after
`install_sanic`, with worker processes as installed-workers, installed-3 for HTTP/3, and
installed-both for both versions prepared in one program.
"""

import sys
from pathlib import Path

from sanic import Sanic

import tercel
from tests.sanic.shop import make

_, HOW, PORT, PEM, EVENTS = sys.argv
SSL = {"cert": PEM, "key": PEM}

if HOW.startswith("installed"):
    tercel.install_sanic()

# Here, as worker processes import this module, too, and look for it.
app = make(events=Path(EVENTS))


def main() -> None:
    if HOW == "tercel":
        tercel.serve("127.0.0.1", int(PORT), app, ssl=SSL, version=3)
    elif HOW == "installed-workers":
        app.run("127.0.0.1", int(PORT), ssl=SSL, workers=2, motd=False)
    elif HOW == "installed-both":
        for version in (3, 1):
            app.prepare("127.0.0.1", int(PORT), ssl=SSL, motd=False, version=version)
        Sanic.serve()
    else:
        app.run(
            "127.0.0.1",
            int(PORT),
            ssl=SSL,
            motd=False,
            single_process=True,
            version=3 if HOW == "installed-3" else 1,
        )


if __name__ == "__main__":
    main()
