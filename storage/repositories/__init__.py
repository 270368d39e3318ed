"""Small repositories, one for each subject."""
