"""The databases at Upstash: which there should be, which there are, and how the one becomes the other."""
