"""Small repositories, one a subject."""
