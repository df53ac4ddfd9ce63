//! The parts of a plan: what runs for Kafka, PostgreSQL, Redis and a program.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use super::template::Names;
use super::{
    BROKERS, ImageKind, Kind, Network, Part, PlanError, PlannedContainer, PlannedCopy, PlannedFile, Runtime, Site,
    instance_name, others,
};
use crate::docker::images;
use crate::link::{Carries, PlannedLink};
use crate::node::{self, LOCALE, NodeSettings};
use crate::spec::{KafkaSpec, Layout, Links, PostgresSpec, ProgramSpec, RedisSpec, Spec};
use crate::toolchain::{Checkpoint, Start, Toolchain};

/// Controllers listen this far above the client port of their node.
pub(crate) const CONTROLLER_PORT_OFFSET: u16 = 100;

/// The Kafka parts: one for all brokers, or one for each.
pub(super) fn kafka(spec: &Spec, kafka: &KafkaSpec, toolchain: &Toolchain, site: &Site) -> Vec<Part> {
    let meeting = if are_linked(spec, kafka) { site.address } else { site.backstage };
    let ids: Vec<u16> = (1..=kafka.brokers).collect();
    match kafka.layout {
        Layout::Colocated => vec![brokers(BROKERS, &ids, kafka, meeting, toolchain, site)],
        Layout::Separate => {
            let one = |id: &u16| brokers(&format!("kafka-{id}"), &[*id], kafka, meeting, toolchain, site);
            ids.iter().map(one).collect()
        }
    }
}

fn brokers(name: &str, ids: &[u16], kafka: &KafkaSpec, meeting: Ipv4Addr, toolchain: &Toolchain, site: &Site) -> Part {
    let client_ports: Vec<u16> = (0..kafka.brokers).map(|index| kafka.port + index).collect();
    let controller_ports: Vec<u16> = client_ports.iter().map(|port| port + CONTROLLER_PORT_OFFSET).collect();
    // A cluster id of the environment's own: a client of an earlier one at this address is refused, not confused.
    let cluster_id = format!("greenroom-{}", site.environment);
    let mut files = Vec::new();
    let mut directories = Vec::new();
    let mut properties = Vec::new();
    for id in ids {
        let directory = site.directory.join(format!("kafka-{id}"));
        let data_dir = directory.join("data");
        let settings = NodeSettings {
            node_id: u32::from(*id),
            host: site.address,
            listen: site.listen(),
            meeting,
            client_ports: &client_ports,
            controller_ports: &controller_ports,
            data_dir: &data_dir,
            cluster_id: &cluster_id,
            replication: kafka.replication,
            min_insync_replicas: kafka.min_insync_replicas,
            timings: kafka.timings,
        };
        let own = directory.join("server.properties");
        files.push(PlannedFile { path: own.clone(), content: node::server_properties(&settings) });
        files.push(PlannedFile { path: data_dir.join("meta.properties"), content: node::meta_properties(&settings) });
        properties.push(own.display().to_string());
        directories.push(data_dir);
    }
    // Native libraries are unpacked there, and would stay behind in `/tmp` when a JVM is killed.
    let unpacks = format!("-Djava.io.tmpdir={}", site.directory.display());
    let mut container = site.contained(images::kafka(toolchain));
    let (from, command, input) = match checkpoint(toolchain, container.as_ref()) {
        Some(checkpoint) => {
            if let Some(container) = &mut container {
                container.reads = checkpoint.reads();
                container.restores_in = checkpoint.image.as_ref().map(|image| image.id.clone());
            }
            let command = node::restore_command(checkpoint, &site.directory, &log(site, &format!("{name}-restored")));
            (", from a checkpoint", command, properties.iter().map(|file| format!("node {file}")).collect())
        }
        None => {
            let mut command = vec![toolchain.jdk.home.join("bin/java").display().to_string(), unpacks.clone()];
            command.extend(node::jvm_arguments(kafka.layout, toolchain));
            command.extend(properties.iter().cloned());
            ("", command, Vec::new())
        }
    };
    let at = |id: &u16| SocketAddrV4::new(site.address, client_ports[usize::from(*id) - 1]);
    let part = Part {
        name: name.to_owned(),
        kind: Kind::Kafka,
        version: format!("Apache Kafka {} on JDK {}{from}", toolchain.kafka.version, toolchain.jdk.version),
        addresses: ids.iter().map(at).collect(),
        directories,
        copies: Vec::new(),
        files,
        container,
        command,
        input,
        variables: identity(site).into_iter().chain([("LC_ALL".to_owned(), LOCALE.to_owned())]).collect(),
        directory: site.directory.clone(),
        log: log(site, name),
    };
    others::kafka(part, unpacks, properties, kafka.layout, toolchain, site)
}

/// What brokers are restored from, if it was made where they run.
fn checkpoint<'a>(toolchain: &'a Toolchain, container: Option<&PlannedContainer>) -> Option<&'a Checkpoint> {
    let Start::Restored(checkpoint) = &toolchain.kafka.start else { return None };
    let made_in = checkpoint.image.as_ref().map(|image| &image.name);
    (made_in == container.map(|container| &container.image)).then_some(checkpoint)
}

/// The PostgreSQL part.
pub(super) fn postgres(postgres: &PostgresSpec, toolchain: &Toolchain, site: &Site) -> Part {
    let data = site.directory.join("postgres");
    let mut settings = vec![
        format!("listen_addresses={}", site.listen()),
        format!("port={}", postgres.port),
        // Clients come over TCP only; a socket file would be one more thing to name and remove.
        "unix_socket_directories=".to_owned(),
        // The data is thrown away with the environment; a crash of the server is still recovered from.
        "fsync=off".to_owned(),
        "full_page_writes=off".to_owned(),
        // Memory segments lie in the data directory and go with it, also after SIGKILL.
        "dynamic_shared_memory_type=mmap".to_owned(),
        "shared_buffers=16MB".to_owned(),
        "max_connections=100".to_owned(),
        // Compiling queries costs more than any query of a test.
        "jit=off".to_owned(),
        "timezone=UTC".to_owned(),
        "log_timezone=UTC".to_owned(),
    ];
    let mut files = Vec::new();
    if site.network == Network::Containers {
        // The engine's own address is where clients come from.
        let path = site.directory.join("pg_hba.conf");
        settings.push(format!("hba_file={}", path.display()));
        files.push(PlannedFile { path, content: "host all all 0.0.0.0/0 trust\n".to_owned() });
    }
    let mut command = vec![
        toolchain.postgres.home.join("bin/postgres").display().to_string(),
        "-D".to_owned(),
        data.display().to_string(),
    ];
    let settings: Vec<_> = settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]).collect();
    command.extend(settings.iter().cloned());
    let part = Part {
        name: "postgres".to_owned(),
        kind: Kind::Postgres { database: postgres.database.clone(), user: postgres.user.clone() },
        version: format!("PostgreSQL {}", toolchain.postgres.version),
        addresses: vec![SocketAddrV4::new(site.address, postgres.port)],
        directories: Vec::new(),
        copies: vec![PlannedCopy { from: toolchain.postgres.data_template.clone(), to: data.clone() }],
        files,
        container: site.contained(images::postgres(toolchain)),
        command,
        input: Vec::new(),
        variables: identity(site),
        directory: data.clone(),
        log: log(site, "postgres"),
    };
    others::postgres(part, data, settings, toolchain, site)
}

/// The Redis part.
pub(super) fn redis(redis: &RedisSpec, toolchain: &Toolchain, site: &Site) -> Part {
    let directory = site.directory.join("redis");
    let (listen, port) = (site.listen().to_string(), redis.port.to_string());
    let place = directory.display().to_string();
    let mut settings: Vec<&str> = vec!["--bind", &listen, "--port", &port, "--dir", &place];
    settings.extend(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
    if site.network == Network::Containers {
        // It would refuse clients that do not come from a loopback address, and the engine brings them from its own.
        settings.extend(["--protected-mode", "no"]);
    }
    let settings: Vec<_> = settings.into_iter().map(str::to_owned).collect();
    let binary = toolchain.redis.binary.display().to_string();
    let part = Part {
        name: "redis".to_owned(),
        kind: Kind::Redis,
        version: format!("Redis {}", toolchain.redis.version),
        addresses: vec![SocketAddrV4::new(site.address, redis.port)],
        directories: vec![directory.clone()],
        copies: Vec::new(),
        files: Vec::new(),
        container: site.contained(images::redis(toolchain)),
        command: [binary].into_iter().chain(settings.iter().cloned()).collect(),
        input: Vec::new(),
        variables: identity(site),
        directory,
        log: log(site, "redis"),
    };
    others::redis(part, settings, toolchain, site)
}

/// The container of a program, where one of them is an image: what it calls has to be in the same network, but for a
/// command of this machine.
pub(super) fn container(program: &ProgramSpec, toolchain: &Toolchain, site: &Site) -> Option<PlannedContainer> {
    match (&program.image, &program.binary) {
        (Some(image), _) => Some(PlannedContainer::of(image.clone(), ImageKind::Service)),
        (None, Some(_)) => {
            let reads = vec![site.binaries.clone()];
            Some(PlannedContainer { reads, ..PlannedContainer::built(images::redis(toolchain)) })
        }
        (None, None) => None,
    }
}

/// One instance of a program.
pub(super) fn program(
    program: &ProgramSpec,
    instance: u16,
    names: &Names,
    shared: &BTreeMap<String, String>,
    site: &Site,
    container: Option<PlannedContainer>,
) -> Result<Part, PlanError> {
    let name = instance_name(program, instance);
    let address = SocketAddrV4::new(site.address, program.port + instance);
    let bind = match (&container, program.link) {
        (Some(_), _) => Ipv4Addr::UNSPECIFIED,
        (None, true) => site.backstage,
        (None, false) => site.address,
    };
    let names = names.with("port", address.port().to_string()).with("bind", bind.to_string());
    let command = match &program.binary {
        Some(binary) => vec![site.binaries.join(binary).display().to_string()],
        None => {
            let place = format!("the command of {}", program.name);
            let expand = |argument: &String| names.expand(&place, argument);
            program.command.iter().map(expand).collect::<Result<_, _>>()?
        }
    };
    let mut variables = identity(site);
    variables.extend(shared.clone());
    variables.extend(names.expand_all(&format!("{}.variables", program.name), &program.variables)?);
    let directory = site.directory.join(&name);
    Ok(Part {
        kind: Kind::Program { ready: format!("http://{address}{}", program.ready), under_test: program.under_test },
        version: match (&program.binary, &program.image) {
            (Some(name), _) => format!("{name}, built here"),
            (None, Some(image)) => image.clone(),
            (None, None) => file_name(&command),
        },
        addresses: vec![address],
        directories: vec![directory.clone()],
        copies: Vec::new(),
        files: Vec::new(),
        container,
        command,
        input: Vec::new(),
        variables,
        directory: program.directory.clone().unwrap_or(directory),
        log: log(site, &name),
        name,
    })
}

/// What stands in front of the parts: brokers (for clients and for the quorum), stores, and programs that want it.
pub(super) fn links(spec: &Spec, parts: &[Part], site: &Site) -> Vec<PlannedLink> {
    if spec.links == Links::None {
        return Vec::new();
    }
    let link = |to: &str, carries: Carries, port: u16| PlannedLink {
        to: to.to_owned(),
        carries,
        front: SocketAddrV4::new(site.address, port),
        back: SocketAddrV4::new(site.backstage, port),
    };
    let brokers = spec.kafka.iter().flat_map(|kafka| {
        let linked: &[(u16, Carries)] = if are_linked(spec, kafka) {
            &[(0, Carries::ClientsAndBrokers), (CONTROLLER_PORT_OFFSET, Carries::Quorum)]
        } else {
            &[(0, Carries::Clients)]
        };
        (1..=kafka.brokers).flat_map(move |id| {
            let port = kafka.port + id - 1;
            linked.iter().map(move |(offset, carries)| link(&format!("kafka-{id}"), *carries, port + offset))
        })
    });
    let wanted = |part: &&Part| match part.kind {
        Kind::Postgres { .. } | Kind::Redis => true,
        Kind::Program { .. } => spec.programs.iter().any(|program| program.link && is_instance_of(program, &part.name)),
        Kind::Kafka => false,
    };
    let others = parts.iter().filter(wanted);
    brokers
        .chain(others.flat_map(|part| part.addresses.iter().map(|at| link(&part.name, Carries::Clients, at.port()))))
        .collect()
}

/// Where brokers and stores listen. Links are the supervisor's, so brokers find those between them in its own network
/// only.
pub(super) fn network(spec: &Spec, runtime: Runtime) -> Network {
    let linked = spec.kafka.as_ref().is_some_and(|kafka| are_linked(spec, kafka));
    match runtime {
        Runtime::Docker if !linked => Network::Containers,
        Runtime::Docker | Runtime::Process => Network::Machine,
    }
}

/// Whether links stand between the brokers. Nothing between brokers of one process can be broken.
fn are_linked(spec: &Spec, kafka: &KafkaSpec) -> bool {
    spec.links == Links::All && kafka.layout == Layout::Separate
}

pub(crate) fn is_instance_of(program: &ProgramSpec, part: &str) -> bool {
    (0..program.instances).any(|instance| instance_name(program, instance) == part)
}

fn file_name(command: &[String]) -> String {
    let program = command.first().map(PathBuf::from).unwrap_or_default();
    program.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn log(site: &Site, part: &str) -> PathBuf {
    site.directory.join("logs").join(format!("{part}.log"))
}

/// What marks a process as one of this environment, for the sweep after a supervisor's death.
fn identity(site: &Site) -> BTreeMap<String, String> {
    BTreeMap::from([
        (crate::runtime::ENVIRONMENT_VARIABLE.to_owned(), site.environment.clone()),
        (crate::runtime::SUPERVISOR_VARIABLE.to_owned(), site.supervisor.clone()),
    ])
}
