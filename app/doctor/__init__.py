"""Checks everything that the product needs, changes nothing, and gives a fix for each problem.

`registry` lists the checks, `checks/` holds them, `groups` runs them and `runner` runs them all.
"""
