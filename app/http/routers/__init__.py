"""The routes, one file a subject; `workers.operations` carries out what they ask for."""
