//! What the numbers were measured on, and whether the machine was quiet.

use std::time::Duration;

use anyhow::Context;
use greenroom::toolchain::{Start, Toolchain};

/// For how long the machine is watched before each measurement, when nothing of ours runs.
const WATCHED: Duration = Duration::from_millis(300);
/// Of all cores, the share above which other work disturbs the numbers.
const BUSY_MAX: f64 = 0.1;

/// Some lines for above the table.
pub(super) fn describe(toolchain: &Toolchain) -> anyhow::Result<String> {
    let cores = std::thread::available_parallelism()?.get();
    let memory_gib = meminfo("MemTotal:")? / f64::from(1 << 20);
    let kernel = read("/proc/sys/kernel/osrelease")?;
    let load = read("/proc/loadavg")?;
    let load: Vec<_> = load.split_whitespace().take(3).collect();
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let start = match &toolchain.kafka.start {
        Start::Restored(_) => "brokers of environments are restored from a checkpoint".to_owned(),
        Start::Cold { because } => format!("brokers begin cold ({because})"),
    };
    Ok(format!(
        "{cores} cores, {memory_gib:.0} GiB, Linux {}; JDK {}, Kafka {}, PostgreSQL {}, Redis {}; {start}; harness {} ({build} \
         build); {}\n\nload average at start: {}",
        kernel.trim(),
        toolchain.jdk.version,
        toolchain.kafka.version,
        toolchain.postgres.version,
        toolchain.redis.version,
        env!("CARGO_PKG_VERSION"),
        chrono::Utc::now().format("%Y-%m-%d %H:%M UTC"),
        load.join(" "),
    ))
}

/// What else the machine did, looked at before each measurement.
#[derive(Debug, Default)]
pub(super) struct Noise {
    looks: usize,
    busy: usize,
    worst: f64,
}

impl Noise {
    /// Watches for a moment in which nothing of ours runs.
    pub(super) async fn look(&mut self) -> anyhow::Result<()> {
        let before = cpu_times()?;
        #[expect(clippy::disallowed_methods, reason = "the length of time over which the machine is watched")]
        tokio::time::sleep(WATCHED).await;
        let after = cpu_times()?;
        let share = 1.0 - (after.idle - before.idle) / (after.all - before.all).max(1.0);
        self.looks += 1;
        self.busy += usize::from(share > BUSY_MAX);
        self.worst = self.worst.max(share);
        Ok(())
    }

    /// A line that says whether the numbers can be trusted.
    pub(super) fn describe(&self) -> String {
        let Self { looks, busy, worst } = self;
        let (limit, worst) = (BUSY_MAX * 100.0, worst * 100.0);
        match busy {
            0 => format!(
                "the machine was quiet: before each of {looks} measurements other work took at most {worst:.0} % of it"
            ),
            _ => format!(
                "**the machine was not quiet**: before {busy} of {looks} measurements other work took more than \
                 {limit:.0} % of it, at most {worst:.0} %; times are too long and ratios uncertain"
            ),
        }
    }
}

struct CpuTimes {
    idle: f64,
    all: f64,
}

/// The first line of /proc/stat (proc_stat(5)): user, nice, system, idle, iowait, irq, softirq, steal.
fn cpu_times() -> anyhow::Result<CpuTimes> {
    let stat = read("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let times: Vec<f64> = line.split_whitespace().skip(1).take(8).filter_map(|time| time.parse().ok()).collect();
    Ok(CpuTimes { idle: times.iter().skip(3).take(2).sum(), all: times.iter().sum() })
}

fn meminfo(name: &str) -> anyhow::Result<f64> {
    let info = read("/proc/meminfo")?;
    let line = info.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.split_whitespace().next()).and_then(|value| value.parse().ok());
    value.with_context(|| format!("/proc/meminfo has no {name}"))
}

fn read(path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {path}"))
}
