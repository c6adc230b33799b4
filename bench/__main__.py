"""`python -m bench`, the same as `syncline bench`."""

from bench.command import main

if __name__ == "__main__":
    main(prog_name="python -m bench")
