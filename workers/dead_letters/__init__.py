"""What follows once a job is buried: recording, retention, export, replay."""
