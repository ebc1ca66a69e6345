"""The workloads, and what of them the programs are told. The budgets stand in budgets.py."""

import dataclasses

SEED = 20220701


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    title: str
    kind: str  # sink: outputs a second; read: campaigns a second; latency; cache; each; counts
    campaigns: int = 0
    restaurants: int = 1  # that campaigns are for, in turn
    in_table: int = 1  # restaurants in the table
    each: int = 1  # subscribers of a restaurant
    active: int = 1  # each n-th campaign runs now
    partitions: int = 4
    batch: int = 10000  # outputs in a transaction of the raw sink
    rate: int = 50  # campaigns a second, latency only
    # When all workloads run: pairs at most, and those of them in which a peer runs too. No budget asks for more.
    pairs: int = 100
    peer_pairs: int = 100

    @property
    def outputs(self):
        return -(-self.campaigns // self.active) * self.each

    def ends(self):
        """Of each partition of the input that is not empty: how many campaigns it has. As feed.c shares them out."""
        if self.active > 1:
            raise NotImplementedError
        shares = {p: len(range(p, self.campaigns, self.partitions)) for p in range(self.partitions)}
        return {p: n for p, n in shares.items() if n}

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

    def warm(self):
        """The round that does not count. At a steady rate a third of it is enough."""
        return self.quick() if self.kind == "latency" else self

    def times(self, n):
        return dataclasses.replace(self, campaigns=self.campaigns * n)


ALL = [
    Workload("W1", "fan-out: 200 campaigns x 5 000 subscribers", "sink", 200, 20, 20, 5000),
    Workload("W2", "narrow: 100 000 campaigns x 10, 1 M subscriptions in the table", "sink",
             100000, 10000, 100000, 10),
    Workload("W3", "filter: 1 M campaigns, 1 % run now, x 10", "read", 1000000, 10000, 10000, 10, 100, peer_pairs=2),
    Workload("W4", "latency: 50 campaigns a second for 30 s, x 10", "latency", 1500, 1000, 1000, 10, peer_pairs=1),
    Workload("W5", "million: 1 campaign x 1 M subscribers", "sink", 1, 1, 1, 1000000, pairs=3, peer_pairs=1),
    Workload("W6", "cache: 1 M and 10 M subscriptions", "cache"),
    Workload("each", "Lua for every row, eight fields, in memory", "each"),
    Workload("counts", "instructions of the hot path, by callgrind", "counts"),
]
BY_NAME = {workload.name: workload for workload in ALL}


def series(quick):
    """--scaling: (series, point, workload, subjects). About a million outputs each; a tenth with `quick`."""
    total = 100000 if quick else 1000000
    w1, w2 = BY_NAME["W1"], BY_NAME["W2"]
    # Twelve partitions: as many for each of 1, 2, 3, 4 workers.
    twelve = dataclasses.replace(w1, campaigns=total // w1.each, partitions=12)
    specs = [f"exactly_once:workers={n}" for n in (1, 2, 3, 4)] + ["exactly_once:workers=1:processes=2", "raw"]
    yield "workers", "W1 with 12 partitions", twelve, specs
    for each in (1, 10, 100, 10000, 1000000):
        each = min(each, total)
        restaurants = max(1, min(10000, 100000 // each))
        yield "fanout", f"{each:,}", dataclasses.replace(w1, campaigns=total // each, restaurants=min(restaurants, total // each),
                                                         in_table=restaurants, each=each), ["exactly_once"]
    for rows in (10000, 1000000, 10000000):
        rows = rows // 10 if quick else rows
        yield "table", f"{rows:,} rows", dataclasses.replace(w2, campaigns=total // w2.each, in_table=rows // w2.each,
                                                             restaurants=min(rows, 100000) // w2.each), ["exactly_once"]


ABOUT = {"workers": "throughput by workers and processes, W1, 12 partitions",
         "fanout": "cost of an output by the subscribers of a campaign",
         "table": "cost of an output by the rows of the lookup, W2"}
