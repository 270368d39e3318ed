"""One small program for each tool that is measured; all speak the protocol of `protocol`."""
