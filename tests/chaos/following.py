"""Checks what one follower of a topic receives: order, duplicates, and that it is told of each gap."""

from typing import Any

from chaos.record import Record
from chaos.truth import Change, Truth
from streamws.topics import Position


class Following:
    """What one follower has received, over all its connections.

    :param name: the follower, in the texts of faults.
    :param latest: whether publications that a newer one of the same key replaces may be missing.
    :param whole: whether the history has everything that the follower can miss, so that there is no gap at all.
    """

    def __init__(
        self, name: str, topic: str, truth: Truth, record: Record, *, latest: bool = False, whole: bool = False
    ) -> None:
        self.name = name
        self.topic = topic
        self.joined = False
        self._latest = latest
        self._whole = whole
        self._truth = truth
        self._record = record
        self._last: Position | None = None  # of the last publication, or where it began
        self._resume: Position | None = None  # where it goes on after a gap at the beginning of a connection
        self._gaps: list[Position] = []  # those it was told of, and that are not behind it
        self._passed: set[str] = set()  # the epochs before that of the last publication
        self._early: list[dict[str, Any]] = []  # what has arrived before the result of joining
        self._numbers: dict[str, int] = {}  # the last number of each publisher
        self._replaced: dict[str, int] = {}  # with `latest`: keys whose newer publication must follow, and their offset

    @property
    def since(self) -> Position | None:
        """The position after which to continue; None at the beginning."""
        return self._resume or self._last

    def cut(self) -> None:
        """The connection has ended. What has arrived before the result of joining is dropped."""
        self.joined = False
        self._early.clear()
        self._gaps.clear()

    def receive(self, message: dict[str, Any]) -> None:
        """Check a message about publications."""
        if "joined" in message:
            self._join(Position(*message["joined"]), message["recovered"])
            early, self._early = self._early, []
            for each in early:
                self.receive(each)
        elif not self.joined:
            self._early.append(message)
        elif "gap" in message:
            self._gap(Position(*message["gap"]), "by a message")
        else:
            self._publication(message["payload"].split(" ")[0], Position(*message["at"]), message["key"])

    def _join(self, position: Position, recovered: bool) -> None:
        self.joined = True
        since = self.since
        if since is None:
            self._last = position
        elif not recovered:
            self._gap(since, f"when it came back, and joined at {position}")
            self._last, self._resume = since, position
        elif self._resume is not None:
            self._last, self._resume = self._resume, None

    def _gap(self, since: Position, how: str) -> None:
        self._record.figures["gaps told"] += 1
        if self._whole:
            self._record.fault("needless gaps", f"{self}, last {self._last}: was told of a gap after {since} {how}")
        self._gaps.append(since)
        self._replaced.clear()

    def _publication(self, name: str, position: Position, key: str | None) -> None:
        record, truth, topic = self._record, self._truth, self.topic
        record.figures["deliveries"] += 1
        truth.see(topic, position, name, key)
        publisher, _, digits = name.partition(".")
        number = int(digits)
        before = self._numbers.get(publisher, 0)
        if number <= before and not truth.may_repeat(topic, name):
            kind = "duplicates" if number == before else "out of order"
            record.fault(kind, f"{self} received {name} at {position} after {publisher}.{before}; last {self._last}")
        self._numbers[publisher] = number
        resume, self._resume = self._resume, None
        if resume is not None and (position.epoch != resume.epoch or position.offset > resume.offset):
            # Nothing was replayed. From here on nothing may be missing.
            self._gaps = [gap for gap in self._gaps if gap != self._last]
            self._last = resume
        self._follow(position, key)

    def _follow(self, position: Position, key: str | None) -> None:
        record, last = self._record, self._last
        assert last is not None
        same = position.epoch == last.epoch
        missing = position.offset - last.offset - 1
        if same and missing < 0:
            kind = "duplicates" if missing == -1 else "out of order"
            record.fault(kind, f"{self} received {position} after {last}")
        elif missing == 0 and not self._is_told(last, position):
            if not same:
                self._truth.continued(Change(self.topic, last, position, self.name))
        elif self._is_told(last, position):
            record.figures["gaps received" if missing or not same else "gaps told in vain"] += 1
            if same:
                record.figures["lost, and told of it"] += missing
        elif self._latest and missing > 0:
            record.figures["replaced by newer ones"] += missing
            self._note_replaced(last, position)
            if not same:
                self._truth.continued(Change(self.topic, last, position, self.name))
        else:
            record.fault("gaps in silence", f"{self} received {position} after {last}; it was told of {self._gaps}")
        if key is not None:
            self._replaced.pop(key, None)
        if not same:
            self._passed.add(last.epoch)
            self._passed.discard(position.epoch)
        self._gaps = [gap for gap in self._gaps if not self._is_behind(gap, last, position)]
        self._last = position

    def _note_replaced(self, last: Position, position: Position) -> None:
        """Note which keys were replaced between two positions."""
        for offset in range(last.offset + 1, position.offset):
            for epoch in {last.epoch, position.epoch}:
                key = self._truth.key(self.topic, Position(epoch, offset))
                if key is not None:
                    self._replaced[key] = offset

    def _is_told(self, last: Position, position: Position) -> bool:
        """Return whether the follower was told of a gap between two positions."""
        return any(self._covers(gap, last, position) for gap in self._gaps)

    def _covers(self, gap: Position, last: Position, position: Position) -> bool:
        # With `latest`, other publications before the gap may have been replaced.
        if last.epoch == position.epoch:
            return gap == last or (self._latest and gap.epoch == last.epoch and last <= gap < position)
        # There may have been other epochs between these two.
        if not self._latest:
            return gap.offset == last.offset
        if gap.epoch == position.epoch:
            return gap.offset < position.offset
        return gap.epoch != last.epoch or gap.offset >= last.offset

    def _is_behind(self, gap: Position, last: Position, position: Position) -> bool:
        """Return whether a gap is before the position that the follower has reached."""
        if gap.epoch == position.epoch:
            return gap.offset < position.offset
        # Others may be ahead: a slow follower is told of a gap while earlier publications still wait.
        return gap.epoch in self._passed or (last.epoch != position.epoch and gap.offset == last.offset)

    def has(self, position: Position) -> bool:
        """Return whether it has received the publication at a position, or was told of a gap there."""
        since = self.since
        passed = since is not None and since.epoch == position.epoch and since.offset >= position.offset
        return passed or bool(self._gaps)

    def finish(self, position: Position) -> None:
        """Check that nothing is missing at the end of the topic, neither there nor of what `latest` has left.

        :param position: of a publication at the end.
        """
        if not self.has(position):
            text = f"{self} has not received the publication at {position}; last {self._last}"
            self._record.fault("missing at the end", text)
        for key, offset in self._replaced.items():
            self._record.fault("gaps in silence", f"{self} has no newer publication of {key} than the one at {offset}")

    def __str__(self) -> str:
        return f"{self.name} in {self.topic}"
