"""`python -m lsemvae`."""

from lsemvae.cli import main

if __name__ == "__main__":
    main()
