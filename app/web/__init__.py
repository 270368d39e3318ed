"""The dashboard in a browser: the client of textual-serve, and for each browser a session of its own."""
