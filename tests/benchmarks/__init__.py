"""The project's benchmark: the same jobs for this program and for its peers, in turn, on one server."""
