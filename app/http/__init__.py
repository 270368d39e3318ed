"""HTTP: probes, metrics, enqueueing and the operator's verbs, on the operations object."""
