"""A REQ client of czmq, by way of its library alone: argv is endpoint, certificate file, the
server's public key, and words.

It prints each reply. zcert_load also reads the secret half, from the file of that name with
``_secret`` behind it.
"""

import ctypes
import ctypes.util
import sys

endpoint, certificate, server_key, *words = (word.encode() for word in sys.argv[1:])
czmq = ctypes.CDLL(ctypes.util.find_library("czmq"))
for name in ("zcert_load", "zsock_new"):
    getattr(czmq, name).restype = ctypes.c_void_p
czmq.zstr_recv.restype = ctypes.c_char_p

REQ = 3
own = ctypes.c_void_p(czmq.zcert_load(certificate))
assert own, "czmq cannot read the certificate"
client = ctypes.c_void_p(czmq.zsock_new(REQ))
czmq.zcert_apply(own, client)
czmq.zsock_set_curve_serverkey(client, server_key)
assert czmq.zsock_connect(client, b"%s", endpoint) == 0
for word in words:
    czmq.zstr_send(client, word)
    print(czmq.zstr_recv(client).decode())
czmq.zsock_destroy(ctypes.byref(client))
czmq.zcert_destroy(ctypes.byref(own))
