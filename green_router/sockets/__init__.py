"""What is about sockets: how messages are taken from the ROUTER and given to it."""
