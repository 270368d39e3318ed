"""Dead letters and what can be done with them."""
