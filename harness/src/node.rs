//! One Kafka node: its files and the arguments of the JVM that it runs in.
//!
//! Pure functions of their arguments, so that a plan prints without a machine. The node is a combined KRaft node
//! (broker and controller in one) with two listeners on one address: `CLIENT`, which clients and the other brokers
//! use, and `CONTROLLER`, which carries the quorum. Where clients come through links and the other brokers do not,
//! the brokers have a listener of their own, `INTERNAL`.
//!
//! Deliberately absent: the levels of Kafka's features (`bootstrap.checkpoint`). They belong to the version of the
//! jars, so the launcher, which runs with those jars, writes them.

use std::fmt::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::spec::{Layout, Timings};
use crate::toolchain::{Archive, ArchiveKind, Checkpoint, Toolchain};

/// Class that starts one node for each properties file given to it.
pub const LAUNCHER_CLASS: &str = "greenroom.Launcher";

/// The locale of JVMs, in which a path is what it is: elsewhere they take file names for ASCII.
pub(crate) const LOCALE: &str = "C.UTF-8";

/// Nodes that have a listener of their own for one another have it this far above their client port.
pub(crate) const INTERNAL_PORT_OFFSET: u16 = 200;

/// What brokers say of a heartbeat that the controller has not dealt with in half of `broker.heartbeat.interval.ms`
/// (`ControllerApis`, Apache Kafka 4.3). With the short interval that we set, a busy machine is enough for it; the next
/// heartbeat comes half a second later, and a broker is missed only after its whole session of three seconds.
pub(crate) const LATE_HEARTBEATS: [&str; 2] = [
    "processExpiredBrokerHeartbeat: controller event queue overloaded",
    "sent a heartbeat request but received error REQUEST_TIMED_OUT",
];

/// What one node of a cluster is to be.
#[derive(Clone, Copy, Debug)]
pub struct NodeSettings<'a> {
    /// Its id, from 1; node `i` takes the `i`-th of the ports.
    pub node_id: u32,
    /// Address that it advertises, where the links in front of it listen.
    pub host: Ipv4Addr,
    /// Address that it listens on; `host` itself where there are no links, and any in a container.
    pub listen: Ipv4Addr,
    /// Address at which nodes find one another: `host`, or the one behind the links where no link shall stand between
    /// them.
    pub meeting: Ipv4Addr,
    /// Client ports of all nodes, in order of their ids.
    pub client_ports: &'a [u16],
    /// Controller ports of all nodes, in order of their ids.
    pub controller_ports: &'a [u16],
    /// Directory of its own, holding `meta.properties` before it starts.
    pub data_dir: &'a Path,
    /// Identity of the cluster, the same in all nodes.
    pub cluster_id: &'a str,
    /// Replication factor of topics that name none, and of Kafka's own topics.
    pub replication: u16,
    /// How many replicas must have a record before `acks=all` is answered.
    pub min_insync_replicas: u16,
    /// Whether elections and heartbeats are short.
    pub timings: Timings,
}

impl NodeSettings<'_> {
    fn own(ports: &[u16], node_id: u32) -> u16 {
        let index = usize::try_from(node_id).ok().and_then(|id| id.checked_sub(1));
        let port = index.and_then(|index| ports.get(index).copied());
        port.expect("every node has a port: ids run from 1 to the number of ports")
    }
}

/// The text of the node's `server.properties`.
///
/// # Panics
/// `node_id` is not one of 1 to the number of ports.
#[must_use]
pub fn server_properties(settings: &NodeSettings<'_>) -> String {
    let mut file = Properties::default();
    identity(&mut file, settings);
    guarantees(&mut file, settings);
    economy(&mut file);
    match settings.timings {
        Timings::Fast => fast_timings(&mut file),
        Timings::ProductionLike => {}
    }
    file.text
}

/// The text of the node's `meta.properties`, which `kafka-storage format` would write.
///
/// The directory's own id is left out; the node adds it at its first start.
#[must_use]
pub fn meta_properties(settings: &NodeSettings<'_>) -> String {
    let mut file = Properties::default();
    file.set("version", 1);
    file.set("cluster.id", settings.cluster_id);
    file.set("node.id", settings.node_id);
    file.text
}

/// The arguments of `java` up to and including the launcher's class; the nodes' properties files follow.
#[must_use]
pub fn jvm_arguments(layout: Layout, toolchain: &Toolchain) -> Vec<String> {
    let kafka = &toolchain.kafka;
    let archive = match layout {
        Layout::Colocated => kafka.colocated_archive.as_ref(),
        Layout::Separate => kafka.separate_archive.as_ref(),
    };
    let mut arguments = jvm_flags(layout);
    arguments.extend(archive.iter().flat_map(|archive| archive_flags(archive)));
    arguments.extend(launcher_arguments(&kafka.classpath));
    arguments
}

/// How `unshare` runs a JVM that is or will be a checkpoint: with process ids of its own, which a copy has again, and
/// mounts of its own; no root is needed for it. It ends with the first process of these namespaces, and they with it.
pub(crate) const IN_NAMESPACES: [&str; 6] =
    ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"];

/// What an engine is told of a container in which namespaces are made; it shows all of `/proc` besides. Such a container
/// is as free as a process of this machine, and no freer: it gets no capability.
pub(crate) const UNCONFINED: [&str; 2] = ["seccomp=unconfined", "apparmor=unconfined"];

/// The command that restores a JVM from a checkpoint. It works in `scratch`; `log` takes what CRIU says.
pub(crate) fn restore_command(checkpoint: &Checkpoint, scratch: &Path, log: &Path) -> Vec<String> {
    let Checkpoint { unshare, criu, script, images, mount, image: _ } = checkpoint;
    let words = [criu, images].map(PathBuf::as_path).into_iter().chain([scratch, mount, log]);
    let words = [script.as_path()].into_iter().chain(words).map(|word| word.display().to_string());
    let unshared = [unshare.display().to_string()].into_iter().chain(IN_NAMESPACES.map(str::to_owned));
    unshared.chain(["sh".to_owned()]).chain(words).collect()
}

/// The flags that a class archive depends on, apart from the class path.
pub(crate) fn jvm_flags(layout: Layout) -> Vec<String> {
    let heap = match layout {
        // The young generation decides how much memory is touched before the first collection.
        Layout::Colocated => ["-Xmx256m", "-Xmn48m"],
        Layout::Separate => ["-Xmx192m", "-Xmn32m"],
    };
    let flags = [
        // One thread collects a small heap fastest, and no collector threads start.
        "-XX:+UseSerialGC",
        // The second compiler never pays for itself in a life of seconds.
        "-XX:TieredStopAtLevel=1",
        // Most methods run a few times: what is put into each of their callers is compiled again with each of them.
        "-XX:C1MaxInlineSize=12",
        "-XX:C1MaxInlineLevel=3",
        // Maps the archive where it was made for, so that its pages stay shared and unpatched.
        "-XX:+UnlockDiagnosticVMOptions",
        "-XX:ArchiveRelocationMode=0",
        // No file in /tmp/hsperfdata_* to write and to leave behind after SIGKILL.
        "-XX:-UsePerfData",
        "-Djava.awt.headless=true",
    ];
    flags.into_iter().chain(heap).map(str::to_owned).collect()
}

/// Logging, class path and main class.
pub(crate) fn launcher_arguments(classpath: &[impl AsRef<Path>]) -> Vec<String> {
    let mut joined = String::new();
    for jar in classpath {
        let separator = if joined.is_empty() { "" } else { ":" };
        write!(joined, "{separator}{}", jar.as_ref().display()).expect("a string takes any text");
    }
    let arguments = [
        // Root level WARN: what a broker says at INFO while it starts costs more than it tells.
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        // Named, so that it is not looked for in every jar.
        "-Dslf4j.provider=org.slf4j.simple.SimpleServiceProvider",
        "-Dslf4j.internal.verbosity=WARN",
        // Brokers log through slf4j; log4j would read its configuration, only so that levels could be set from afar.
        "-Dlog4j2.loggerContextFactory=org.apache.logging.log4j.simple.SimpleLoggerContextFactory",
        "-cp",
        &joined,
        LAUNCHER_CLASS,
    ];
    arguments.into_iter().map(str::to_owned).collect()
}

/// The flags that put an archive to use.
pub(crate) fn archive_flags(archive: &Archive) -> Vec<String> {
    let path = archive.path.display();
    match archive.kind {
        ArchiveKind::AotCache => vec![
            format!("-XX:AOTCache={path}"),
            // A cache that does not fit is an error at start, not a start that is three times slower.
            "-XX:AOTMode=on".to_owned(),
            // JDK 25 warns of adapters that it could not name apart; with the mode above nothing is hidden by this.
            "-Xlog:disable".to_owned(),
            "-Xlog:all=error:stderr".to_owned(),
        ],
        ArchiveKind::AppCds => vec![format!("-XX:SharedArchiveFile={path}")],
    }
}

fn identity(file: &mut Properties, settings: &NodeSettings<'_>) {
    let NodeSettings { host, listen, meeting, .. } = settings;
    let client = NodeSettings::own(settings.client_ports, settings.node_id);
    let controller = NodeSettings::own(settings.controller_ports, settings.node_id);
    let voters: Vec<String> =
        (1..).zip(settings.controller_ports).map(|(id, port): (u32, &u16)| format!("{id}@{meeting}:{port}")).collect();
    let mut listeners = vec![("CLIENT", client, host), ("CONTROLLER", controller, meeting)];
    let among_brokers = if meeting == host { "CLIENT" } else { "INTERNAL" };
    if among_brokers == "INTERNAL" {
        listeners.push((among_brokers, client + INTERNAL_PORT_OFFSET, meeting));
    }
    let bound = listeners.iter().map(|(name, port, _)| format!("{name}://{listen}:{port}"));
    let advertised = listeners.iter().map(|(name, port, at)| format!("{name}://{at}:{port}"));
    let protocols = listeners.iter().map(|(name, ..)| format!("{name}:PLAINTEXT"));
    file.set("process.roles", "broker,controller");
    file.set("node.id", settings.node_id);
    file.set("controller.quorum.voters", voters.join(","));
    file.set("listeners", comma_list(bound));
    file.set("advertised.listeners", comma_list(advertised));
    file.set("listener.security.protocol.map", comma_list(protocols));
    file.set("controller.listener.names", "CONTROLLER");
    if among_brokers == "CLIENT" {
        file.note("The client listener carries replication too: one set of network threads less.");
    } else {
        file.note(
            "Brokers of one process meet without a link: nothing between them could be broken, and a link costs.",
        );
    }
    file.set("inter.broker.listener.name", among_brokers);
    file.set("log.dirs", settings.data_dir.display());
}

fn comma_list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(",")
}

fn guarantees(file: &mut Properties, settings: &NodeSettings<'_>) {
    let replication = settings.replication;
    let in_sync = settings.min_insync_replicas;
    file.set("default.replication.factor", replication);
    file.set("min.insync.replicas", in_sync);
    file.set("offsets.topic.replication.factor", replication);
    file.set("transaction.state.log.replication.factor", replication);
    file.set("transaction.state.log.min.isr", in_sync);
    file.set("share.coordinator.state.topic.replication.factor", replication);
    file.set("share.coordinator.state.topic.min.isr", in_sync);
    file.note("A misspelt topic is an error, not a new topic with one partition.");
    file.set("auto.create.topics.enable", false);
}

fn economy(file: &mut Properties) {
    file.note("One partition each: creating fifty would cost more than everything else.");
    file.set("offsets.topic.num.partitions", 1);
    file.set("transaction.state.log.num.partitions", 1);
    file.set("share.coordinator.state.topic.num.partitions", 1);
    file.note("Few threads: a test's load is small and the start is bound by CPU.");
    file.set("num.network.threads", 1);
    file.set("num.io.threads", 2);
    file.set("background.threads", 2);
    file.set("num.recovery.threads.per.data.dir", 1);
    file.set("group.coordinator.threads", 1);
    file.set("group.coordinator.background.threads", 1);
    file.note("Files of a partition stay small: an index is allocated at its full size.");
    file.set("log.index.size.max.bytes", 65_536);
    file.note(
        "The cleaner stays on, so that compaction is real, with 2 MiB instead of 128; Kafka asks for more than 1.",
    );
    file.set("log.cleaner.dedupe.buffer.size", 2_097_152);
    file.set("log.cleaner.io.buffer.size", 65_536);
}

/// How fast the cluster is ready and recovers; never what it guarantees.
fn fast_timings(file: &mut Properties) {
    file.note("A quorum that starts elects within a tenth of a second.");
    file.set("controller.quorum.election.timeout.ms", 100);
    file.set("controller.quorum.election.backoff.max.ms", 50);
    file.note("Followers long-poll up to 500 ms; a lower value than this makes false elections.");
    file.set("controller.quorum.fetch.timeout.ms", 2_000);
    file.note("Metadata is appended at once instead of waiting for more.");
    file.set("controller.quorum.append.linger.ms", 0);
    file.note("At rest a record that says nothing is committed: each second shows that the controller goes on.");
    file.set("metadata.max.idle.interval.ms", 1_000);
    file.note("Six heartbeats in a session. A start waits for none of them: what a broker becomes is told at once.");
    file.set("broker.heartbeat.interval.ms", 500);
    file.note("A killed broker can register again once its session is over; a paused one is fenced after it.");
    file.set("broker.session.timeout.ms", 3_000);
    file.set("initial.broker.registration.timeout.ms", 60_000);
    file.note("A follower whose leader was not up yet asks again at once, not after a second.");
    file.set("replica.fetch.backoff.ms", 20);
    file.note("A group of one does not wait for others.");
    file.set("group.initial.rebalance.delay.ms", 0);
}

/// A Java properties file being written.
#[derive(Debug, Default)]
struct Properties {
    text: String,
}

impl Properties {
    fn note(&mut self, reason: &str) {
        writeln!(self.text, "# {reason}").expect("a string takes any text");
    }

    fn set(&mut self, key: &str, value: impl fmt::Display) {
        let value = escape(&value.to_string());
        writeln!(self.text, "{key}={value}").expect("a string takes any text");
    }
}

/// Writes a value so that `java.util.Properties.load` reads the same characters.
///
/// `load` takes the file for ISO 8859-1, so what is beyond ASCII is written by its UTF-16 code units.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for (index, character) in value.chars().enumerate() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            // Leading space is dropped by `load`; a space elsewhere stays.
            ' ' if index == 0 => escaped.push_str("\\ "),
            ' '..='~' => escaped.push(character),
            _ => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    write!(escaped, "\\u{unit:04x}").expect("a string takes any text");
                }
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(data_dir: &Path, timings: Timings) -> NodeSettings<'_> {
        NodeSettings {
            node_id: 2,
            host: Ipv4Addr::new(127, 18, 4, 7),
            listen: Ipv4Addr::new(127, 130, 4, 7),
            meeting: Ipv4Addr::new(127, 18, 4, 7),
            client_ports: &[9092, 9093, 9094],
            controller_ports: &[9192, 9193, 9194],
            data_dir,
            cluster_id: "greenroom-abc",
            replication: 3,
            min_insync_replicas: 2,
            timings,
        }
    }

    #[test]
    fn a_node_binds_its_own_ports_advertises_its_links_and_knows_all_voters() {
        let text = server_properties(&settings(Path::new("/data/kafka-2"), Timings::Fast));
        let own = "\nlisteners=CLIENT://127.130.4.7:9093,CONTROLLER://127.130.4.7:9193\n";
        assert!(text.contains(own), "{text}");
        let advertised = "\nadvertised.listeners=CLIENT://127.18.4.7:9093,CONTROLLER://127.18.4.7:9193\n";
        assert!(text.contains(advertised), "{text}");
        let voters = "controller.quorum.voters=1@127.18.4.7:9192,2@127.18.4.7:9193,3@127.18.4.7:9194\n";
        assert!(text.contains(voters), "{text}");
    }

    #[test]
    fn nodes_that_meet_behind_their_links_have_a_listener_of_their_own() {
        let backstage = Ipv4Addr::new(127, 130, 4, 7);
        let text = server_properties(&NodeSettings { meeting: backstage, ..settings(Path::new("/d"), Timings::Fast) });
        let advertised = "\nadvertised.listeners=CLIENT://127.18.4.7:9093,CONTROLLER://127.130.4.7:9193,\
                          INTERNAL://127.130.4.7:9293\n";
        assert!(text.contains(advertised), "{text}");
        assert!(text.contains("\ninter.broker.listener.name=INTERNAL\n"), "{text}");
        assert!(text.contains("=1@127.130.4.7:9192,2@127.130.4.7:9193,3@127.130.4.7:9194\n"), "{text}");
    }

    #[test]
    fn production_like_timings_leave_kafkas_defaults() {
        let fast = server_properties(&settings(Path::new("/d"), Timings::Fast));
        let like_production = server_properties(&settings(Path::new("/d"), Timings::ProductionLike));
        assert!(fast.contains("controller.quorum.election.timeout.ms=100"));
        assert!(fast.starts_with(&like_production));
        assert!(!like_production.contains("timeout.ms"), "{like_production}");
        assert!(like_production.contains("\nmin.insync.replicas=2\n"));
    }

    #[test]
    fn values_survive_the_properties_format() {
        assert_eq!(escape(r"C:\data"), r"C:\\data");
        assert_eq!(escape("/a b: c=d#e"), "/a b: c=d#e");
        assert_eq!(escape(" leading"), r"\ leading");
        assert_eq!(escape("/tmp/ü𝄞"), r"/tmp/\u00fc\ud834\udd1e");
        assert_eq!(escape("a\nb"), r"a\nb");
    }

    #[test]
    fn meta_properties_hold_what_formatting_would_write() {
        let text = meta_properties(&settings(Path::new("/d"), Timings::Fast));
        assert_eq!(text, "version=1\ncluster.id=greenroom-abc\nnode.id=2\n");
    }
}
