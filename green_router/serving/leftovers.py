"""Counts what is left over when the owner of the ROUTER has ended.

Rules of this file
  1. It runs once, when nothing can leave any more: all mail that is left gets its fate, abandoned, and is not sent.
  2. It waits for those who are about to put mail, and for nobody else.
"""
from __future__ import annotations

from time import monotonic

import gevent

from ..messages.ledger import ABANDONED, Ledger
from .mailbox import Mailbox
from .owner import Owner

CLAIM_SECONDS = 1.0
"""How long the end waits for an OS thread between two lines of ``Request.reply``: it needs its turn, nothing else."""


def sweep_up(mailbox: Mailbox, owner: Owner, ledger: Ledger, crashed: bool) -> None:
    """Count the rest. **Blocks** the calling greenlet until all has its fate.

    What there can be: pushes that came too late; replies of OS threads that had claimed their request and not sent it when
    it was too late for that; anything, where the owner has crashed.

    Args:
        crashed: whether the owner may have had something in hand when it ended.
    """
    given_up = monotonic() + CLAIM_SECONDS
    while len(mailbox) or (not crashed and ledger.unsettled and monotonic() < given_up):
        if mailbox.empty():
            gevent.sleep(0.001)         # still behind the door, or before it
            continue
        mail = mailbox.get()
        if mail.__class__ is tuple:
            owner.sweep_up(mail)
    if crashed:
        ledger.counts[ABANDONED] += ledger.unsettled
