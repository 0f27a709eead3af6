"""`hours` of a limit: when sends are given to their workers, by the clocks of a time zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sluice.config import parsers
from sluice.config.fields import Value
from sluice.config.problems import Malformed, quoted

_HOURS = re.compile(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2}) ([A-Za-z0-9_+/-]{1,64})")
_DAY = 24 * 60
_CURE = "write 08:00-20:00 Asia/Jakarta"


@dataclass(frozen=True, slots=True)
class Hours:
    """Each day from one minute of the day to another, in the next day where that is the smaller one."""

    begin: int
    end: int
    zone: str
    """Of the IANA time zone database."""

    def opens_in(self, now: float) -> float:
        """Seconds until sends may go; 0: they may now. `now`: Unix seconds. Where clocks are set forward over the
        beginning, it is when they have been; where they are set back, both of the hours that are called alike count."""
        zone = ZoneInfo(self.zone)
        here = datetime.fromtimestamp(now, zone)
        if self._is_open(here.hour * 60 + here.minute):
            return 0.0
        today = here.date()
        begins = [self._begins(day, zone) for day in (today, today + timedelta(days=1), today + timedelta(days=2))]
        return min(begin - now for begin in begins if begin > now)

    def _is_open(self, minute: int) -> bool:
        if self.begin < self.end:
            return self.begin <= minute < self.end
        return minute >= self.begin or minute < self.end

    def _begins(self, day: date, zone: ZoneInfo) -> float:
        begin = datetime(day.year, day.month, day.day, self.begin // 60, self.begin % 60, tzinfo=zone)
        return begin.timestamp()

    def __str__(self) -> str:
        return f"{_clock(self.begin)}-{_clock(self.end)} {self.zone}"


def hours(value: Value) -> Hours:
    value.takes(parsers.pattern(_HOURS.pattern))
    text = value.text()
    found = _HOURS.fullmatch(text)
    if found is None:
        raise Malformed(f"{quoted(text)} are no hours of a time zone", _CURE)
    from_hour, from_minute, to_hour, to_minute = map(int, found.groups()[:4])
    begin, end = from_hour * 60 + from_minute, to_hour * 60 + to_minute
    if from_minute > 59 or to_minute > 59 or begin >= _DAY or end > _DAY:
        raise Malformed(f"{quoted(text)} has a time that no day has", _CURE)
    if begin == end % _DAY:
        raise Malformed(f"{quoted(text)} begins when it ends", "write two times, or remove it: then sends always go")
    try:
        ZoneInfo(found[5])
    except (ZoneInfoNotFoundError, ValueError, OSError):
        cure = "write one of the IANA database, such as Asia/Jakarta or UTC"
        raise Malformed(f"no time zone is called {quoted(found[5])}", cure) from None
    return Hours(begin, end, found[5])


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
