"""Security: who may connect. Key files, CURVE, ZAP, address filters; no message passes here.

Files:

    certificates    CURVE key pairs as files
    keys            a directory of the keys that may connect, read whole
    access          one policy: what the settings of security say, checked and loaded
    filters         addresses and users that libzmq refuses before a handshake
    zap             answers libzmq's questions about those who connect
    proxied         the keys of a server that connects to a proxy
    failures        counts those who were refused, by cause
"""
