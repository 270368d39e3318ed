"""What can go wrong with a benchmark; slow figures never do."""


class BenchmarkError(Exception):
    """A program under measurement failed, lost jobs or did not get ready; the message says which and how."""
