#!/bin/sh
# The image's entry point. `exec`, so that SIGTERM reaches the program.
python=${TERCEL_PYTHON:-/opt/tercel/bin/python}
# Before anything else: the runner tries a test case that does not exist, and waits for the answer.
"$python" -m interop.endpoint.contract || exit $?

# Routes through the simulator; from the base image.
/setup.sh

if [ "$ROLE" = client ]; then
    /wait-for-it.sh sim:57832 -s -t 30
fi
exec "$python" -m "interop.endpoint.$ROLE"
