"""Worker processes: the list, and one of them."""
