"""`python -m wolfe` is the command line."""

from wolfe.cli import main

if __name__ == "__main__":
    main()
