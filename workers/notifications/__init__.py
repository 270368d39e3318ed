"""Notifies people of alerts, by the services that COUTURECAST_NOTIFY_URLS names.

`decisions` finds what is due, `messages` writes it, `services` sends it, `notifier` ties them.
"""

THREAD_NAME = "notification"
"""Names the threads in which services send: the log drops their lines, since URLs are in them."""
