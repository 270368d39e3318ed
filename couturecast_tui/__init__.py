"""The one name under which the program is installed.

Its packages are called ``app``, ``tui``, ``workers`` and ``storage``.  At the top level they would collide
with packages of other projects.  So they are installed below this package, and its entry puts their folder
first on ``sys.path``.
"""
