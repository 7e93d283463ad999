"""What a process asks of those who come in, as decided by the configuration; by default nothing, as on one machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Who may come in, and how much of it.

    Attributes:
        credentials_required: whether every call needs a credential, also while the store holds none; where it is not, the
            first credential that is made begins to ask for them.
        unit_tokens: whether reports and consent calls need their unit's token; only credentials may issue those, so this
            asks for credentials too.
        messages_per_s, message_burst: of one credential, in one worker; 0 for no limit.
        unit_reports_per_minute: of one unit, in one worker; 0 for no limit.
    """

    credentials_required: bool = False
    unit_tokens: bool = False
    messages_per_s: float = 0
    message_burst: int = 1
    unit_reports_per_minute: int = 0
