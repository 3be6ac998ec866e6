#!/bin/sh
# Prints a Python of each version that tercel is for, beside the one of `python3`: those that are in
# PATH, and those of pyenv and uv. What starts no such Python is left out.
pyenv=${PYENV_ROOT:-$HOME/.pyenv}/versions
uv=${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/uv/python}

# A build without the GIL has a version of the same number, but is another Python.
probe='import sys, sysconfig
print("%d.%d" % sys.version_info[:2] + ("t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""))'

own=$(python3 -c "$probe")
for version in 3.11 3.12 3.13; do
    [ "$version" = "$own" ] && continue
    # Of pyenv there is a python3.12 in PATH that runs nothing unless it was chosen.
    for python in "$(command -v "python$version")" \
        "$pyenv/$version".*/bin/python "$uv/cpython-$version".*/bin/python; do
        if [ "$("$python" -c "$probe" 2>/dev/null)" = "$version" ]; then
            echo "$python"
            break
        fi
    done
done
