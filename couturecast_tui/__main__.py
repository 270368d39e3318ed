"""``python -m couturecast_tui``."""

from couturecast_tui.entry import main

if __name__ == "__main__":
    main()
