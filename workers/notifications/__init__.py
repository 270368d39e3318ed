"""Notifies people of alerts, by the services that COUTURECAST_NOTIFY_URLS names.

`decisions` says what is due, `messages` writes it, `services` sends it, `notifier` ties them.
"""

THREAD_NAME = "notification"
"""Of the threads in which services send: the log drops what their libraries log, since URLs are in it."""
