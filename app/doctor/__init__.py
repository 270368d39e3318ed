"""Checks everything that the product needs, changes nothing, and says how to mend what is wrong.

`checks` lists the checks; `redis`, `database` and their neighbours make them; `examination` runs them.
"""
