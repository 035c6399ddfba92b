"""What a message is, and what becomes of it: pure, no socket, no clock."""
