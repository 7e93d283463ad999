"""Upper bounds of everything that could grow: queues, batches, strings, counts and retries.

Each has a test on both sides of it. Sizes are in bytes unless the name says otherwise.
"""

from __future__ import annotations

# One report, at the door.
REPORT_ID_BYTES = 16
UNIT_ID_MAX_BYTES = 128
POINTS_PER_REPORT_MAX = 4_096
TOKENS_PER_REPORT_MAX = 1_024
"""Distinct tokens of open dimensions in one report."""
COUNT_PER_POINT_MAX = 2**20
"""Largest count that one point of a distribution, flag or choice may carry."""

# One message, one connection.
REPORTS_PER_MESSAGE_MAX = 10_000
MESSAGE_MAX_BYTES = 8 * 2**20
STREAMS_PER_CONNECTION_MAX = 1_000
"""Calls of one connection that may be in hand; further ones wait for their client to end one."""
STREAM_MESSAGES_IN_FLIGHT_MAX = 16
"""Messages of one stream that may wait for their acknowledgement; then the stream is not read further."""
REJECTION_MESSAGES_MAX = 1_000
"""Rejections of one message that carry a text; the others carry their reason alone."""

# The queue before the intake log.
QUEUED_REPORTS_MAX = 200_000
"""Reports waiting for their group commit in one worker; beyond it the door answers RESOURCE_EXHAUSTED with RetryInfo."""
QUEUED_POINTS_MAX = 20_000_000
"""Points of those reports; beyond it the door answers the same. It bounds the memory that they take."""
QUEUED_TOKENS_MAX = 1_000_000
"""Entries in the tables of tokens of those reports; beyond it the door answers the same."""
GROUP_COMMIT_REPORTS_MAX = 20_000
GROUP_COMMIT_POINTS_MAX = 2_000_000

# Clocks.
CLOCK_SKEW_MAX_MS = 5 * 60_000
"""How far in the future a report's interval may end."""

# The plan.
PLAN_FILE_MAX_BYTES = 2**20
METRICS_MAX = 1_000
PURPOSES_MAX = 64
RESOLUTIONS_MAX = 8
DIMENSIONS_PER_METRIC_MAX = 8
DIMENSION_VALUES_MAX = 10_000
VIEWS_PER_METRIC_MAX = 32
EDGES_MAX = 256
OPTIONS_MAX = 256
QUANTILES_MAX = 32
TOKEN_MAX_LENGTH = 64
"""Characters of a token of an open dimension."""
TOKEN_MAX_BYTES = 4 * TOKEN_MAX_LENGTH
"""Bytes that so many characters can take in UTF-8."""
TOKENS_PER_WINDOW_MAX = 2**20
"""Distinct partitions that one window's open view may hold; beyond it the window is LOST by name (P1)."""
PARTITIONS_PER_METRIC_MAX = 2**20
SERIES_MAX = 2**31
NAME_MAX_LENGTH = 64
TEXT_MAX_LENGTH = 1_000
NUMBER_DIGITS_MAX = 30
"""Digits of a number in the plan, written out without an exponent: 1e-8 has eight."""
RANGE_MAX = 2**31
"""Largest absolute value of a metric's range, in resolution steps."""
EVENTS_PER_UNIT_MAX = 2**14
"""Largest `max_events`."""
SQUARES_EVENTS_MAX = 2**20
"""Events of one unit and partition beyond which sums of squares are scaled down before they are centered."""
SQUARES_VALUE_MAX = 2**19
"""Distance from zero, in steps, of values whose variance is released; `16 SQUARES_EVENTS_MAX` of its squares fit int64."""
UNITS_MAX = 2**27
"""Units that are summed in int64, as `plan check` proves that no sum of theirs leaves it; more take two words (P6)."""
WINDOWS_PER_PERIOD_MAX = 2_000
EXPIRY_MAX_DAYS = 366
LATENESS_MAX_MS = 30 * 86_400_000

# The intake log.
SEGMENT_MAX_BYTES = 64 * 2**20
FRAME_MAX_BYTES = 64 * 2**20
BUCKET_BITS_MAX = 10
RUN_BYTES_TARGET = 2**19
"""Of reports that a compacted segment keeps together: enough that what reading them costs beside their size is little."""
BUCKET_BYTES_TARGET = 2**23
"""Of reports that are sealed together: what is made of them on the way fits a core's caches."""

PARALLEL_BYTES = 2**27
"""From this size on a window is worth processes of its own, which take half a second to start."""

# Liveness.
LEASE_S = 10.0
"""A worker whose beat has not moved for this long is declared dead by the sealer."""
BEAT_S = 2.0
"""A worker beats this often, and acknowledges nothing when its last beat is older than half the lease."""
SERVING_MARK_S = 60.0
"""So often it is recorded that the service is there; only where nobody saw its end does the last record count."""

# Consent.
DECISIONS_PER_REQUEST_MAX = 64
DECIDING_PER_UNIT_AND_MINUTE = 60
"""Requests of one unit that one worker records in a minute; beyond it withdrawals alone, where they change anything."""
ERASING_PER_UNIT_AND_MINUTE = 10
"""Erasures of one unit that one worker records in a minute, however much else the unit decides."""
READING_PER_UNIT_AND_MINUTE = 10
"""How often a minute one worker tells a unit what is held on it: all files of raw data are read for that."""
READING_AT_ONCE_MAX = 100
"""Such questions that may wait in one worker, which answers one at a time."""
DECISIONS_PER_PAGE = 10_000
"""Decisions that are read from the state store at once."""
LANGUAGES_MAX = 64
"""Languages that a plan's purposes may be shown in."""
SOURCES_MAX = 16
"""Places that a plan may list where decisions are made."""

# Access.
CREDENTIALS_MAX = 1_000
"""Credentials that are not revoked; workers hold them in memory."""
CREDENTIAL_LIFETIME_MAX_DAYS = 3_660
UNIT_TOKEN_MAX_BYTES = 64
"""A longer one is none, and is not kept."""
UNIT_TOKEN_LIFETIME_MAX_S = 366 * 86_400
UNIT_TOKEN_LIFETIME_DEFAULT_S = 30 * 86_400
UNITS_TRACKED_MAX = 2**18
"""Units whose rate a worker remembers; further ones are refused until the time of one of these has passed."""
CREDENTIALS_FOLLOWED_S = 1.0
"""How often a worker looks whether credentials have changed."""
REFUSAL_NOTED_S = 60.0
"""The access log notes that a role may not call a method at most so often, of one credential in one worker."""
ACCESSES_PER_CREDENTIAL_MAX = 100_000
"""Lines of the access log that are kept of one credential, the newest: nobody pushes another's lines out."""
CREDENTIALS_STALE_S = 10.0
"""A worker that could not look for so long admits nobody."""

# Queries.
NAMES_PER_QUESTION_MAX = 20_000
"""Dimensions, statistics and values that one question may name: twice what a dimension may have."""
RECORD_PART_BYTES = 2**20
"""The public record is told in parts of so many bytes."""
RELEASES_PER_ANSWER_MESSAGE = 8
LEDGER_ENTRIES_PER_ANSWER_MESSAGE = 500
CACHED_LOSSES_MAX = 10_000

PLAN_LEAD_MS = 60_000
"""A plan change is recorded at least so long before the border at which it begins: every process follows it until then."""
