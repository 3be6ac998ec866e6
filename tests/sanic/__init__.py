"""One Sanic application, one suite: Sanic's own server and tercel give the same answers."""
