"""The workloads, and what of them the programs are told. The budgets stand in report.py."""

import dataclasses

SEED = 20220701


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    title: str
    kind: str  # sink: outputs a second; read: campaigns a second; latency; cache
    campaigns: int = 0
    restaurants: int = 1  # that campaigns are for, in turn
    in_table: int = 1  # restaurants in the table
    each: int = 1  # subscribers of a restaurant
    active: int = 1  # each n-th campaign runs now
    partitions: int = 4
    batch: int = 10000  # outputs in a transaction of the raw sink
    rate: int = 50  # campaigns a second, latency only

    @property
    def outputs(self):
        return -(-self.campaigns // self.active) * self.each

    def arguments(self):
        """For the programs of bench/*.c."""
        return [
            text
            for name in ("campaigns", "active", "restaurants", "each", "partitions", "batch", "rate")
            for text in ("--" + name, str(getattr(self, name)))
        ] + ["--in-table", str(self.in_table), "--seed", str(SEED)]

    def quick(self):
        """A tenth of the outputs; of a latency, a third of the time."""
        if self.kind == "latency":
            return dataclasses.replace(self, campaigns=self.campaigns // 3)
        if self.campaigns >= 100:
            return dataclasses.replace(self, campaigns=self.campaigns // 10)
        return dataclasses.replace(self, each=max(1, self.each // 10))

    def times(self, n):
        return dataclasses.replace(self, campaigns=self.campaigns * n)


ALL = [
    Workload("W1", "fan-out: 200 campaigns x 5 000 subscribers", "sink", 200, 20, 20, 5000),
    Workload("W2", "narrow: 100 000 campaigns x 10, 1 M subscriptions in the table", "sink",
             100000, 10000, 100000, 10),
    Workload("W3", "filter: 1 M campaigns, 1 % run now, x 10", "read", 1000000, 10000, 10000, 10, 100),
    Workload("W4", "latency: 50 campaigns a second for 30 s, x 10", "latency", 1500, 1000, 1000, 10),
    Workload("W5", "million: 1 campaign x 1 M subscribers", "sink", 1, 1, 1, 1000000),
    Workload("W6", "cache: 1 M and 10 M subscriptions", "cache"),
]
BY_NAME = {workload.name: workload for workload in ALL}
