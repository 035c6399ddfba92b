"""Messages and their fates: pure, no socket, no clock."""
