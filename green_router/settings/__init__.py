"""Settings: each is declared once, as a field that carries its row.

Files:

    kinds       kinds of value: what each takes, how it is read from a text and shown
    fields      a setting (a kind, a default, a sentence), and the sets that hold them
    server      those of ``Server(...)``
    access      those that say who may connect, for a server or an endpoint
    secret_key  CURVE keys as values
    service     those of ``green-router serve`` around it
    keywords    the keywords of ``Server(...)``, for editors and type checkers
"""

from .access import Access
from .fields import Setting
from .keywords import ServerKeywords, Unpack
from .server import MIB, Settings
from .service import Service

SETTINGS = Settings.rows()
"""The settings of a server, by name."""

SERVICE = Service.rows()
"""The settings of a service around it, by name."""

__all__ = [
    "MIB",
    "SERVICE",
    "SETTINGS",
    "Access",
    "ServerKeywords",
    "Service",
    "Setting",
    "Settings",
    "Unpack",
]
