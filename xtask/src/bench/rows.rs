//! What is measured, and what each row of the table has to reach.

/// Which of a contestant's samples a goal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stat {
    Median,
    P99,
    Max,
}

impl Stat {
    pub(super) fn name(self) -> &'static str {
        match self {
            Stat::Median => "median",
            Stat::P99 => "p99",
            Stat::Max => "maximum",
        }
    }
}

/// What the samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Nanoseconds.
    Time,
    /// Bytes.
    Memory,
    Count,
}

/// What has to hold. A contestant of another row is `row/contestant`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    /// One contestant's statistic divided by another's.
    Ratio { of: &'static str, to: &'static str, stat: Stat, max: f64 },
    /// A statistic by itself.
    Most { of: &'static str, stat: Stat, max: f64 },
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) unit: Unit,
    /// The contestant that the ratios of the others are relative to.
    pub(super) limit: &'static str,
    pub(super) goals: &'static [Goal],
}

/// One run of a measuring program.
#[derive(Debug)]
pub(super) struct Measure {
    pub(super) name: &'static str,
    pub(super) rows: &'static [Row],
}

const fn row(id: &'static str, title: &'static str, unit: Unit, limit: &'static str, goals: &'static [Goal]) -> Row {
    Row { id, title, unit, limit, goals }
}

const fn ratio(of: &'static str, to: &'static str, max: f64) -> Goal {
    Goal::Ratio { of, to, stat: Stat::Median, max }
}

const fn p99(of: &'static str, to: &'static str, max: f64) -> Goal {
    Goal::Ratio { of, to, stat: Stat::P99, max }
}

const fn most(of: &'static str, max: f64) -> Goal {
    Goal::Most { of, stat: Stat::Median, max }
}

const fn never_more(of: &'static str, max: f64) -> Goal {
    Goal::Most { of, stat: Stat::Max, max }
}

const RAW: &str = "raw pipe";
const RAW_PTY: &str = "raw PTY";
const F: &str = "foster";
const LOOP: &str = "kill loop, wait loop";
const MS: f64 = 1e6;
const MIB: f64 = 1_048_576.0;

use Unit::{Count, Memory, Time};

pub(super) const MEASURES: &[Measure] = &[
    Measure {
        name: "line",
        rows: &[
            row("line-idle", "a line there and back, idle machine", Time, RAW, &[ratio(F, RAW, 0.3)]),
            row("line-apart", "the same, each side on a core of its own", Time, RAW, &[ratio(F, RAW, 0.3)]),
            row(
                "line-together",
                "the same, both sides on one core",
                Time,
                RAW,
                &[ratio(F, RAW, 1.2), p99(F, RAW, 1.5)],
            ),
            row("line-busy", "the same, all cores busy", Time, RAW, &[ratio(F, RAW, 1.2), p99(F, RAW, 1.5)]),
            row("line-8", "the same, 8 at once, per line", Time, RAW, &[ratio(F, RAW, 1.1)]),
            row("line-32", "the same, 32 at once, per line", Time, RAW, &[ratio(F, RAW, 1.1)]),
        ],
    },
    Measure {
        name: "pty",
        rows: &[
            row("pty", "a line there and back over a PTY", Time, RAW_PTY, &[ratio(F, RAW_PTY, 1.15)]),
            row("pty-busy", "the same, all cores busy", Time, RAW_PTY, &[ratio(F, RAW_PTY, 1.2)]),
        ],
    },
    Measure {
        name: "flood",
        rows: &[
            row("flood-64", "64 MiB before the match", Time, RAW, &[ratio(F, RAW, 0.6)]),
            row("flood-512", "512 MiB before the match", Time, RAW, &[ratio(F, RAW, 0.6)]),
            row(
                "flood-2048",
                "2 GiB before the match",
                Time,
                RAW,
                // Linear: four times as much takes four times as long.
                &[ratio(F, RAW, 0.6), ratio(F, "flood-512/foster", 4.6)],
            ),
            row("flood-late-64", "64 MiB, the test looks when all is written", Time, RAW, &[ratio(F, RAW, 0.6)]),
            row("flood-late-512", "512 MiB, the same", Time, RAW, &[ratio(F, RAW, 0.6)]),
            row(
                "flood-late-2048",
                "2 GiB, the same",
                Time,
                RAW,
                &[ratio(F, RAW, 0.6), ratio(F, "flood-late-512/foster", 4.6)],
            ),
            row("flood-busy", "64 MiB before the match, all cores busy", Time, RAW, &[ratio(F, RAW, 1.2)]),
            row("flood-memory", "growth of the test process in all of these", Memory, "", &[never_more(F, 4.0 * MIB)]),
        ],
    },
    Measure {
        name: "regex",
        rows: &[row("regex", "512 MiB before a regex with a capture matches", Time, RAW, &[ratio(F, RAW, 1.3)])],
    },
    Measure {
        name: "spawn",
        rows: &[
            row("spawn", "spawn to exit status, three pipes", Time, "std", &[ratio(F, "std", 1.2)]),
            row("spawn-in-a-row", "20 without a pause, each until gone, per spawn", Time, "std", &[]),
            row("spawn-16", "16 in flight, per spawn", Time, "std", &[ratio(F, "std", 1.0)]),
        ],
    },
    Measure {
        name: "heap",
        rows: &[row(
            "heap",
            "spawn to exit status in a large test process",
            Time,
            "std, no heap",
            &[
                ratio("foster, 256 MiB", "foster, no heap", 1.2),
                ratio("foster, 2 GiB", "foster, no heap", 1.2),
                ratio("foster, 2 GiB", "std, 2 GiB", 1.2),
            ],
        )],
    },
    Measure {
        name: "first",
        rows: &[
            row(
                "first",
                "first spawn in a process, guardian included",
                Time,
                "re-exec",
                &[ratio(F, "re-exec", 1.3), ratio(F, "re-exec, then std", 1.3)],
            ),
            row(
                "first-heap",
                "the same with 2 GiB of heap",
                Time,
                "re-exec, 2 GiB",
                &[ratio("foster, 2 GiB", "foster, no heap", 1.2)],
            ),
        ],
    },
    Measure {
        name: "stop",
        rows: &[
            row("stop-quick-10", "stop 10 that leave at once", Time, LOOP, &[]),
            row(
                "stop-quick-100",
                "stop 100 that leave at once",
                Time,
                LOOP,
                &[
                    ratio(F, LOOP, 1.15),
                    ratio("foster, exit hook", LOOP, 1.15),
                    ratio("foster, signal hook", LOOP, 1.15),
                ],
            ),
            row("stop-quick-1000", "stop 1,000 that leave at once", Time, LOOP, &[ratio(F, LOOP, 1.15)]),
            row("stop-slow-10", "stop 10 that need 10 ms", Time, LOOP, &[ratio(F, LOOP, 1.1)]),
            row(
                "stop-slow-100",
                "stop 100 that need 10 ms",
                Time,
                LOOP,
                &[ratio(F, LOOP, 1.1), ratio("foster, exit hook", LOOP, 1.1), ratio("foster, signal hook", LOOP, 1.1)],
            ),
            row("stop-slow-1000", "stop 1,000 that need 10 ms", Time, LOOP, &[ratio(F, LOOP, 1.1)]),
            row(
                "stop-stubborn-100",
                "stop 100 that ignore SIGTERM, grace 2 s",
                Time,
                LOOP,
                &[
                    most(F, 2_100.0 * MS),
                    most("foster, exit hook", 2_100.0 * MS),
                    most("foster, signal hook", 2_100.0 * MS),
                ],
            ),
        ],
    },
    Measure {
        name: "end",
        rows: &[
            row(
                "end",
                "SIGKILL of a test process with 100 helpers and 100 daemons",
                Time,
                "kill and reap",
                &[ratio(F, "kill and reap", 1.3)],
            ),
            row("survivors", "who lives on after that", Count, "", &[never_more(F, 0.0)]),
        ],
    },
    Measure {
        name: "silence",
        rows: &[
            row(
                "silence",
                "waiting 2 s for a silent helper, processor time",
                Time,
                "",
                &[never_more(F, MS), never_more("foster, nobody waits", MS)],
            ),
            row(
                "silence-wakeups",
                "wake-ups in the second in the middle of it",
                Count,
                "",
                &[never_more(F, 0.0), never_more("foster, nobody waits", 0.0)],
            ),
        ],
    },
    Measure {
        name: "live",
        rows: &[
            row(
                "live-spawn",
                "2,000 live fixtures: cost of a spawn",
                Time,
                "the first tenth",
                &[ratio("the last tenth", "the first tenth", 1.2)],
            ),
            row(
                "live-threads",
                "threads in the test process",
                Count,
                "10 fixtures",
                &[ratio("all fixtures", "10 fixtures", 1.0)],
            ),
            row("live-memory", "private memory of a keeper", Memory, "", &[never_more("keeper", 400.0 * 1024.0)]),
            row("live-stop", "the end of all of them", Time, "", &[]),
        ],
    },
    Measure {
        name: "leakcheck",
        rows: &[row(
            "leakcheck",
            "500 quick tests under the leak check, processor time",
            Time,
            "the suite alone",
            &[ratio("with leakcheck", "the suite alone", 1.02)],
        )],
    },
    Measure {
        name: "build",
        rows: &[
            row(
                "build",
                "clean debug build of the dev-dependency",
                Time,
                "its dependencies alone",
                &[ratio(F, "its dependencies alone", 1.15)],
            ),
            row(
                "build-cpu",
                "the same, processor time",
                Time,
                "its dependencies alone",
                &[ratio(F, "its dependencies alone", 1.15)],
            ),
            row("build-copies", "crates that are there twice", Count, "", &[never_more(F, 0.0)]),
        ],
    },
];
