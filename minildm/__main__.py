"""`minildm` and `python -m minildm` begin here.

Ctrl-C is answered from the first moment on, while the command line itself is still being imported.
"""

import sys


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        from minildm import cli

        return cli.main()
    except KeyboardInterrupt:
        print("minildm: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
