"""Mutants that no test can find, each with the reason.

`KINDS` are changes of what a call's argument alone says; `ONES` are single changes, keyed by what is changed, as numbers of
mutants move with every line.
"""

from __future__ import annotations

import ast
from typing import Final

from tests.mutation.mutants import Change

KINDS: Final = (
    ("ensure", "the words of an invariant: nobody meets them unless the code is wrong"),
    ("zip", "zip of columns of one length: `strict` states that, and changes nothing where it holds"),
    ("np.full", "an array full of an integer is int64, whether or not that is said"),
)
_INTEGERS: Final = {"NEVER", "_NOBODY"}
"""Constants that are an int in every module."""

Key = tuple[str, tuple[str, ...], tuple[str, ...]]
ONES: dict[Key, str] = {
    # consent
    (
        "hushmeter.consent.register.ConsentRegister._rows",
        ("while len(self._subjects) > len(self._since):",),
        ("while len(self._subjects) >= len(self._since):",),
    ): "the columns grow one subject earlier, and nobody reads a row that no subject has",
    (
        "hushmeter.consent.subjects.SubjectRows._append",
        ("if self._count > len(self._subjects):",),
        ("if self._count >= len(self._subjects):",),
    ): "a table that is just full is built again, as large as it was and with the same rows",
    (
        "hushmeter.consent.subjects.SubjectRows._next",
        ("return (slots + 1) & (len(self._slots) - 1)",),
        ("return (slots - 1) & (len(self._slots) - 1)",),
    ): "slots are tried in the other direction, by who writes and by who reads; rows are numbered by arrival",
    # ledger
    (
        "hushmeter.ledger.commitments._plain_digest",
        ('partitions = json.dumps(keys, separators=(",", ":"), ensure_ascii=False)',),
        ('partitions = json.dumps(keys, separators=(",", "XX:XX"), ensure_ascii=False)',),
    ): "partitions are pairs in a list: the text holds no mapping, which alone has the second separator",
    (
        "hushmeter.ledger.commitments.commitment_to",
        ('vector.salt or b"",',),
        ('vector.salt or b"XXXX",',),
    ): "the line before refuses a vector without a salt, and a salt is 16 bytes: the other value is never taken",
    (
        "hushmeter.ledger.gaussian.exact_mu",
        ("low, high = 0.0, 1.0",),
        ("low, high = 0.0, 2.0",),
    ): "bisection comes to the one border where delta is exceeded from any bracket around it",
    (
        "hushmeter.ledger.gaussian.exact_mu",
        ("low, high = high, 2 * high",),
        ("low, high = high, 3 * high",),
    ): "bisection comes to the one border where delta is exceeded from any bracket around it",
    # noise and sealing
    (
        "hushmeter.noise.opendp.OpenDPMechanisms.draw",
        ("threshold=c.threshold or 0,",),
        ("threshold=c.threshold or 1,",),
    ): "a charge without a threshold was refused before",
    (
        "hushmeter.noise.opendp._Noise._added",
        ("noisy = np.array(self.invoke(cells), np.int64)",),
        ("noisy = np.array(self.invoke(cells), None)",),
    ): "OpenDP returns a list of integers, which has an item at least, and numpy makes int64 of that anyway",
    (
        "hushmeter.noise.opendp._Noise._added",
        ("noisy = np.array(self.invoke(cells), np.int64)",),
        ("noisy = np.array(self.invoke(cells), )",),
    ): "OpenDP returns a list of integers, which has an item at least, and numpy makes int64 of that anyway",
    (
        "hushmeter.noise.opendp._Noise.begin",
        ("cells = np.ascontiguousarray(values).reshape(-1)",),
        ("cells = np.ascontiguousarray(values).reshape(-2)",),
    ): "numpy takes any one negative length for the length that is left to find",
    (
        "hushmeter.noise.opendp._key_of",
        ('public, _, token = name.partition("/")',),
        ('public, _, token = name.rpartition("/")',),
    ): "a name is a number, one slash and hexadecimal digits",
    (
        "hushmeter.sealing.copies._same_as_first",
        ("others = np.zeros(len(points) + 1, np.int64)",),
        ("others = np.zeros(len(points) + 1, None)",),
    ): "a float64 counts the points of a batch as exactly",
    (
        "hushmeter.sealing.copies._same_as_first",
        ("others = np.zeros(len(points) + 1, np.int64)",),
        ("others = np.zeros(len(points) + 1, )",),
    ): "a float64 counts the points of a batch as exactly",
    (
        "hushmeter.sealing.copies.counting",
        ("alone = first & np.append(first[1:], True)",),
        ("alone = first & np.append(first[1:], False)",),
    ): "a last copy that is alone goes the way of those that tie, where it is the only one of its report",
    (
        "hushmeter.sealing.copies.counting",
        ("group = np.cumsum(begins) - 1",),
        ("group = np.cumsum(begins) + 1",),
    ): "groups of copies that tie are numbered from 2, and told apart as before",
    (
        "hushmeter.sealing.participation._key",
        ('return hashlib.blake2b(key=period_key, person=b"kept windows", digest_size=64).digest()',),
        ('return hashlib.blake2b(key=period_key, person=b"kept windows", ).digest()',),
    ): "64 bytes are what BLAKE2b gives where no size is named",
    (
        "hushmeter.sealing.participation.decrypted",
        ('rows = np.frombuffer(plain, "<u8", offset=4).reshape(-1, 2 + words).astype(np.uint64)',),
        ('rows = np.frombuffer(plain, "<u8", offset=4).reshape(-2, 2 + words).astype(np.uint64)',),
    ): "numpy takes any one negative length for the length that is left to find",
    (
        "hushmeter.sealing.participation.encrypted",
        ('plain = words.to_bytes(4, "little") + np.ascontiguousarray(rows, "<u8").tobytes()',),
        ('plain = words.to_bytes(4, "little") + np.ascontiguousarray(rows, None).tobytes()',),
    ): "rows are uint64, which is little-endian on every machine that the tests run on",
    (
        "hushmeter.sealing.participation.encrypted",
        ('plain = words.to_bytes(4, "little") + np.ascontiguousarray(rows, "<u8").tobytes()',),
        ('plain = words.to_bytes(4, "little") + np.ascontiguousarray(rows, ).tobytes()',),
    ): "rows are uint64, which is little-endian on every machine that the tests run on",
    (
        "hushmeter.sealing.rows._copies",
        ("if not (first[1:] | same).all():",),
        ("if not (first[1:] & same).all():",),
    ): "rows are sorted by whole ids more often than need be, and come out the same",
    (
        "hushmeter.sealing.rows._copies",
        ("same = (ids[1:] == ids[:-1]).all(axis=1) & (windows[1:] == windows[:-1])",),
        ("same = (ids[1:] == ids[:-1]).all(axis=None) & (windows[1:] == windows[:-1])",),
    ): "rows are sorted by whole ids more often than need be, and come out the same",
    (
        "hushmeter.sealing.seal.Sealing._bound_participation",
        ("admitted = admitted_units(units, carried.earlier, carried.index, most or 0)",),
        ("admitted = admitted_units(units, carried.earlier, carried.index, most or 1)",),
    ): "a metric that bounds participation keeps one window at least, as was ensured",
    (
        "hushmeter.sealing.statistics._kept_total",
        ("total = np.where(events > most, np.sign(total) * _scaled(np.abs(total), most, events), total)",),
        ("total = np.where(events >= most, np.sign(total) * _scaled(np.abs(total), most, events), total)",),
    ): "of just as many events as count the scaled total is the total",
    (
        "hushmeter.sealing.statistics._scaled",
        ("some = np.maximum(events, 1)",),
        ("some = np.maximum(events, 2)",),
    ): "it is used where there are more than `most` events, which are two at least",
    (
        "hushmeter.sealing.statistics._squares",
        ("shift = np.maximum(0, np.ceil(np.log2(np.maximum(events, 1) / limits.SQUARES_EVENTS_MAX))).astype(np.int64)",),
        ("shift = np.maximum(0, np.ceil(np.log2(np.maximum(events, 2) / limits.SQUARES_EVENTS_MAX))).astype(np.int64)",),
    ): "of one event nothing is shifted, nor of two",
    (
        "hushmeter.sealing.statistics._squares",
        ("scaled = np.where(events > most, _scaled(centered, most, events), centered)",),
        ("scaled = np.where(events >= most, _scaled(centered, most, events), centered)",),
    ): "of just as many events as count the scaled sum is the sum",
    (
        "hushmeter.sealing.statistics._squares",
        ("of_events: Int64 = 2 * np.clip(scaled, 0, kept * widest) - kept * widest",),
        ("of_events: Int64 = 2 * np.clip(scaled, None, kept * widest) - kept * widest",),
    ): "the sum was clamped before it was scaled, and is not negative; every function clamps last all the same",
    (
        "hushmeter.sealing.statistics._squares",
        ("of_events: Int64 = 2 * np.clip(scaled, 0, kept * widest) - kept * widest",),
        ("of_events: Int64 = 2 * np.clip(scaled, 0, None) - kept * widest",),
    ): "the sum was clamped before it was scaled, to as much an event; every function clamps last all the same",
    (
        "hushmeter.sealing.statistics._unit_mean",
        ("mean = np.clip(whole * steps + rest * steps // np.maximum(events, 1), low * steps, high * steps)",),
        ("mean = np.clip(whole * steps + rest * steps // np.maximum(events, 2), low * steps, high * steps)",),
    ): "a division by one leaves no rest",
    (
        "hushmeter.sealing.statistics._unit_mean",
        ("whole = np.clip(whole, -(2**32), 2**32)",),
        ("whole = np.clip(whole, -(2**33), 2**32)",),
    ): "either is beyond every range, and its product with the steps is in int64",
    (
        "hushmeter.sealing.statistics._unit_mean",
        ("whole = np.clip(whole, -(2**32), 2**32)",),
        ("whole = np.clip(whole, -(2**32), 2**33)",),
    ): "either is beyond every range, and its product with the steps is in int64",
    (
        "hushmeter.sealing.statistics._weights",
        ("return np.where(events <= most, FIXED_POINT * counts, _scaled(FIXED_POINT * counts, most, events))",),
        ("return np.where(events < most, FIXED_POINT * counts, _scaled(FIXED_POINT * counts, most, events))",),
    ): "of just as many events as count the scaled weights are the weights",
    (
        "hushmeter.sealing.totals.still_used",
        ("usable = np.zeros((len(plan.metrics) + 1, len(rows)), np.bool_)",),
        ("usable = np.zeros((len(plan.metrics) + 2, len(rows)), np.bool_)",),
    ): "the last row stands for an unknown series, and the row before it for nothing",
    (
        "hushmeter.sealing.totals.totals",
        ("cells = rows.series[points].astype(np.int64), rows.token_numbers[points].astype(np.int64)",),
        ("cells = rows.series[points].astype(None), rows.token_numbers[points].astype(np.int64)",),
    ): "numbers are compared, and float64 holds every uint32",
    (
        "hushmeter.sealing.totals.totals",
        ("cells = rows.series[points].astype(np.int64), rows.token_numbers[points].astype(np.int64)",),
        ("cells = rows.series[points].astype(np.int64), rows.token_numbers[points].astype(None)",),
    ): "numbers are compared, and float64 holds every uint32",
    (
        "hushmeter.sealing.views._add_open",
        ('raise InvariantError(f"{metric.name}: points without tokens are in no private partition")',),
        ("raise InvariantError(None)",),
    ): "the words of an invariant: nobody meets them unless the code is wrong",
    # query
    (
        "hushmeter.query.answering._view",
        ("finer = [v for v in metric.views if set(view) < set(v)]",),
        ("finer = [v for v in metric.views if set(view) <= set(v)]",),
    ): "views are in the metric's order, and no view of the same dimensions is released where this line is reached",
    (
        "hushmeter.query.consistency._combined",
        ("split = _split(view.values.transpose(*axes, len(axes)).astype(np.float64))",),
        ("split = _split(view.values.transpose(*axes, len(axes)).astype(None))",),
    ): "numpy takes None for float64",
    (
        "hushmeter.query.estimates._top_k",
        ('ranked = np.argsort(-h.values, axis=1, kind="stable")[:, : asked.metric.top_k]',),
        ('ranked = np.argsort(-h.values, kind="stable")[:, : asked.metric.top_k]',),
    ): "the second of two axes is the last one, along which numpy sorts by default",
    (
        "hushmeter.query.intervals.fieller",
        ("safe = np.where(a == 0, 1.0, a)",),
        ("safe = np.where(a == 0, 2.0, a)",),
    ): "where a is 0 the roots are not used",
    (
        "hushmeter.query.quantiles._crossing",
        ("share = -bound[row, last] / np.where(step > 0, step, 1.0)",),
        ("share = -bound[row, last] / np.where(step > 0, step, 2.0)",),
    ): "without a step both places are the same one",
    (
        "hushmeter.query.quantiles._inverted",
        ("share = (target - below) / np.where(rise > 0, rise, 1.0)",),
        ("share = (target - below) / np.where(rise > 0, rise, 2.0)",),
    ): "a curve that does not rise to its target ends at 0, and has the middle of the range",
    (
        "hushmeter.query.ratios._ratio",
        ("safe = np.where(positive, n, 1.0)",),
        ("safe = np.where(positive, n, 2.0)",),
    ): "it stands for a count that is not positive, and what is divided by it is not used",
    (
        "hushmeter.query.ratios.variance",
        ("safe = np.where(positive, n.values, 1.0)",),
        ("safe = np.where(positive, n.values, 2.0)",),
    ): "it stands for a count that is not positive, and what is divided by it is not used",
    (
        "hushmeter.query.sums.Sums.of",
        ("values = np.sum([v.values for v in vectors], axis=0).astype(np.float64)",),
        ("values = np.sum([v.values for v in vectors], axis=0).astype(None)",),
    ): "numpy takes None for float64",
}


def kind_of(change: Change) -> str | None:
    """The reason why a change is of a kind that no test can find, or None."""
    return next((why for kind, why in KINDS if _plainly(change.original, kind) == _plainly(change.mutant, kind)), None)


class _Plain(ast.NodeTransformer):
    """Leaves out of each call of one name what `KINDS` says of it."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if ast.unparse(node.func) != self._kind:
            return node
        if self._kind == "ensure":
            node.args = node.args[:1]
        elif self._kind == "zip":
            node.keywords = [k for k in node.keywords if k.arg != "strict"]
        elif len(node.args) > 1 and _is_integer(node.args[1]) and ast.unparse(node.args[-1]) in {"None", "np.int64"}:
            node.args = node.args[:2]
        return node


def _is_integer(node: ast.expr) -> bool:
    plain = node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else node
    if isinstance(plain, ast.Constant):
        return type(plain.value) is int
    return isinstance(plain, ast.Name) and plain.id in _INTEGERS


def _plainly(source: str, kind: str) -> str:
    return ast.dump(_Plain(kind).visit(ast.parse(source)))
