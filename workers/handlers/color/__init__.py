"""Colour palettes of garment photos."""
