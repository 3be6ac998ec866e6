"""The program: `tercel`, or `python -m tercel`."""

import sys

from tercel.shared.requirements import advice, missing_package


def main() -> int:
    """Run the command line; the result is the exit code. Reports a missing package."""
    try:
        from tercel.cli import main as run_command_line
    except ImportError as error:
        package = missing_package(error)
        if package is None:
            raise
        sys.stderr.write(f"tercel: error: {advice(package)}\n")
        return 2
    return run_command_line()


if __name__ == "__main__":
    sys.exit(main())
