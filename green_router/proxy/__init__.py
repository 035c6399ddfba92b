"""Between clients and servers on other machines: one address for the former, any number of the
latter."""
