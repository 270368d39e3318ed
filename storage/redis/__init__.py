"""How to reach Redis: connections, scripts, locks, and the reasons for a refusal."""
