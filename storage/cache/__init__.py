"""The personalization cache."""
