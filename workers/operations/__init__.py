"""Every verb of an operator or producer, once: for keys, commands and HTTP."""
