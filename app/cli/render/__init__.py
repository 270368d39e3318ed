"""Values as text for the command line."""
