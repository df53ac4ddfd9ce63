//! A plan is reviewed as text, without starting anything.

use std::net::Ipv4Addr;
use std::path::Path;

use super::{Plan, Scope, Site};
use crate::spec::{self, Layout, Links, Spec};
use crate::toolchain::{Archive, ArchiveKind, Jdk, Kafka, Postgres, Redis, Toolchain};

const DESCRIPTION: &str = r#"
name = "example"
links = "clients"
[kafka]
topics = [{ name = "orders", partitions = 3 }, { name = "audit", replication = 1 }]
[postgres]
database = "shop"
[redis]
[[programs]]
name = "helper"
command = ["/usr/bin/helper", "--listen", "{bind}:{port}"]
port = 8000
link = true
[[programs]]
name = "shop"
binary = "shop"
port = 3000
instances = 2
under_test = true
variables = { PORT = "{port}" }
[variables]
DATABASE_URL = "{postgres.url}"
BROKERS = "{kafka.brokers}"
HELPER_URL = "{helper.url}"
LITERAL = "{{not a name}}"
"#;

fn example() -> Spec {
    spec::read_str(Path::new("environment.toml"), DESCRIPTION).expect("the example is right")
}

fn site() -> Site {
    Site {
        environment: "example-1-1".to_owned(),
        supervisor: "1-1".to_owned(),
        address: Ipv4Addr::new(127, 18, 4, 7),
        backstage: Ipv4Addr::new(127, 130, 4, 7),
        directory: "/state/my environments/example-1-1".into(),
        binaries: "/target/debug".into(),
    }
}

fn toolchain() -> Toolchain {
    let archive = |name: &str| {
        let path = format!("/cache/{name}.aot").into();
        Some(Archive { kind: ArchiveKind::AotCache, path })
    };
    Toolchain {
        jdk: Jdk { home: "/jdk".into(), major: 25, version: "25.0.3".to_owned() },
        kafka: Kafka {
            version: "4.3.1".to_owned(),
            classpath: vec!["/cache/jars/kafka.jar".into(), "/cache/jars/launcher.jar".into()],
            colocated_archive: archive("colocated"),
            separate_archive: archive("separate"),
        },
        postgres: Postgres {
            home: "/cache/postgres".into(),
            version: "17.11".to_owned(),
            data_template: "/cache/postgres-data".into(),
        },
        redis: Redis { binary: "/cache/redis/redis-server".into(), version: "6.2.6".to_owned() },
    }
}

fn plan(spec: &Spec, scope: Scope) -> Plan {
    Plan::new(spec, scope, &toolchain(), site()).expect("the example can be planned")
}

#[test]
fn colocated() {
    insta::assert_snapshot!(plan(&example(), Scope::Everything));
}

#[test]
fn separate() {
    let mut spec = example();
    spec.kafka.as_mut().expect("it has brokers").layout = Layout::Separate;
    let plan = plan(&spec, Scope::Infrastructure);
    let parts: Vec<_> = plan.parts.iter().map(|part| (part.name.as_str(), part.addresses.clone())).collect();
    insta::assert_debug_snapshot!(parts);
    assert!(plan.part("shop").is_none(), "the program under test is no infrastructure");
}

#[test]
fn brokers_take_consecutive_ports() {
    let brokers: Vec<_> = plan(&example(), Scope::Everything).brokers().iter().map(ToString::to_string).collect();
    assert_eq!(brokers, ["127.18.4.7:9092", "127.18.4.7:9093", "127.18.4.7:9094"]);
}

/// Goal: what `--links` or a test makes of a description is checked too.
#[test]
fn a_description_that_was_changed_is_checked_again() {
    let mut spec = example();
    let kafka = spec.kafka.as_mut().expect("it has brokers");
    kafka.port = 65_400;
    spec.links = Links::None;
    plan(&spec, Scope::Everything);
    spec.links = Links::All;
    let error = Plan::new(&spec, Scope::Everything, &toolchain(), site()).expect_err("there are no such ports");
    assert!(error.to_string().contains("kafka among brokers: a port lies outside 1 to 65535"), "{error}");
    assert_eq!(spec.ports(Scope::Infrastructure).iter().filter(|port| **port >= 65_400).count(), 6);
}

#[test]
fn unknown_name_in_a_template_is_told_with_the_known_ones() {
    let mut spec = example();
    spec.variables.insert("WRONG".to_owned(), "{redsi.port}".to_owned());
    let error = Plan::new(&spec, Scope::Everything, &toolchain(), site()).expect_err("the name is unknown");
    insta::assert_snapshot!(error);
}

#[test]
fn a_brace_without_a_partner_is_told() {
    let mut spec = example();
    spec.variables.insert("WRONG".to_owned(), "{redis.port".to_owned());
    let error = Plan::new(&spec, Scope::Everything, &toolchain(), site()).expect_err("the brace is open");
    insta::assert_snapshot!(error);
}
