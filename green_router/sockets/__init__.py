"""Sockets: where a server listens, and how messages are taken from the ROUTER and given to it."""
