"""`python -m mathjudge`: the command `mathjudge` (`mathjudge.grade`)."""

from __future__ import annotations

from mathjudge.grade import main

if __name__ == "__main__":
    raise SystemExit(main())
