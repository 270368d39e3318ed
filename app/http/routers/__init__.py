"""The routes, one file a subject; they call `workers.operations`."""
