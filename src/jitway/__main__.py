"""`python -m jitway` is the command line."""

from jitway.cli.main import main

if __name__ == "__main__":
    main()
