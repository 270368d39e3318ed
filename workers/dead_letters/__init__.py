"""The steps after a job is buried: recording, retention, export, replay."""
