"""The simulated server of `support.simulator`, asked at each arrival when the request would start and end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from runtime.admission.forecast import Backlog, Forecast, Room, Work
from runtime.admission.pace import Pace
from support.simulator import Job, Simulator


@dataclass
class Foreseeing(Simulator):
    """Learns its pace as it goes, as a server does, and notes what it foresaw."""

    pace: Pace = field(default_factory=Pace)
    foreseen: dict[int, tuple[float, Forecast]] = field(default_factory=dict)
    """When each job was looked at, and what was foreseen; not those that came before anything was known."""
    ended: dict[int, float] = field(default_factory=dict)

    def real(self, key: int) -> Forecast:
        """What became of a job, from when it was looked at."""
        asked = self.foreseen[key][0]
        return Forecast(self.started[key] - asked, self.ended[key] - asked)

    def _let_things_happen(self) -> None:
        known = set(self.waiting)
        super()._let_things_happen()
        line = [job for job in self.waiting.values() if job.key in known]
        for job in [job for job in self.waiting.values() if job.key not in known]:
            forecast = self._backlog(line).forecast(self._work(job), self.pace)
            if forecast is not None:
                self.foreseen[job.key] = self.now, forecast
            line.append(job)

    def _prefill(self, placed: Sequence[tuple[int, int]]) -> None:
        began = self.now
        super()._prefill(placed)
        self.pace.prefilled(sum(self._job(key).prompt for key, _ in placed), self.now - began)

    def _decode(self, keys: Sequence[int]) -> None:
        began = self.now
        super()._decode(keys)
        self.pace.decoded(self.now - began)

    def _remove(self, job: Job) -> None:
        if self.generated.get(job.key) == job.reply:
            self.ended[job.key] = self.now
            self.pace.ended(job.prompt, job.reply, by_itself=job.reply < job.longest_reply)
        super()._remove(job)

    def _backlog(self, line: Sequence[Job]) -> Backlog:
        running = [self._work(job) for job in self.running.values()]
        return Backlog(Room(self.rows, self.budgets.total_tokens), running, [self._work(job) for job in line])

    def _work(self, job: Job) -> Work:
        generated = self.generated.get(job.key, 0)
        longest = job.longest_reply - max(1, generated)
        return Work(0 if generated else job.prompt, self.pace.reply_tokens(longest), job.demand.total_tokens)

    def _job(self, key: int) -> Job:
        return next(job for job in self.jobs if job.key == key)
