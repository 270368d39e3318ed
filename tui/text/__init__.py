"""Values as text, for the screens and the command line."""
