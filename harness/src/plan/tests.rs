//! A plan is reviewed as text, without starting anything.

use std::net::Ipv4Addr;
use std::path::Path;

use super::{Network, Plan, Runtime, Scope, Site};
use crate::spec::{self, Layout, Links, Spec};
use crate::toolchain::{
    Archive, ArchiveKind, Checkpoint, HeldImage, Jdk, Kafka, PartImage, PartImages, Postgres, Redis, Start, Toolchain,
};

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
        runtime: Runtime::Process,
        network: Network::default(),
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
            start: Start::Cold { because: "there is no `criu`".to_owned() },
        },
        postgres: Postgres {
            home: "/cache/postgres".into(),
            version: "17.11".to_owned(),
            data_template: "/cache/postgres-data".into(),
        },
        redis: Redis { binary: "/cache/redis/redis-server".into(), version: "6.2.6".to_owned() },
        images: PartImages::default(),
    }
}

pub(crate) fn plan(spec: &Spec, scope: Scope) -> Plan {
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

/// Goal: brokers are told by input what a command line tells them elsewhere, in both layouts, and only where the
/// checkpoint was made: on this machine, or in the image that they run in.
#[test]
fn brokers_are_restored_where_there_is_a_checkpoint() {
    let mut toolchain = toolchain();
    let checkpoint = Checkpoint {
        image: None,
        unshare: "/bin/unshare".into(),
        criu: "/sbin/criu".into(),
        script: "/cache/checkpoint/restore.sh".into(),
        images: "/cache/checkpoint/images".into(),
        mount: "/cache/mount".into(),
    };
    toolchain.kafka.start = Start::Restored(checkpoint.clone());
    let spec = example();
    let planned = |spec, toolchain: &Toolchain, site| {
        Plan::new(spec, Scope::Infrastructure, toolchain, site).expect("it can be planned")
    };
    let colocated = planned(&spec, &toolchain, site());
    let brokers = colocated.part("kafka").expect("it has brokers");
    insta::assert_debug_snapshot!((&brokers.version, &brokers.command, &brokers.input));

    let mut separate = spec.clone();
    separate.kafka.as_mut().expect("it has brokers").layout = Layout::Separate;
    let separate = planned(&separate, &toolchain, site());
    let second = separate.part("kafka-2").expect("it has three brokers");
    assert_eq!(second.input, ["node /state/my environments/example-1-1/kafka-2/server.properties"]);

    let contained = Site { runtime: Runtime::Docker, ..site() };
    let cold = planned(&spec, &toolchain, contained.clone());
    let cold = cold.part("kafka").expect("it has brokers");
    assert!(cold.input.is_empty() && cold.command[0].ends_with("java"), "{:?}", cold.command);
    let name = cold.container.clone().expect("it runs in one").image;
    let image = Some(HeldImage { name, id: "sha256:1".to_owned() });
    toolchain.kafka.start = Start::Restored(Checkpoint { image, ..checkpoint });
    let restored = planned(&spec, &toolchain, contained.clone());
    let restored = restored.part("kafka").expect("it has brokers");
    assert_eq!((&restored.command, &restored.input), (&brokers.command, &brokers.input));
    let container = restored.container.as_ref().expect("it runs in one");
    assert_eq!(container.restores_in.as_deref(), Some("sha256:1"));
    assert!(container.reads.iter().any(|path| path.ends_with("checkpoint/images")));
    let here = planned(&spec, &toolchain, site());
    assert!(here.part("kafka").is_some_and(|brokers| brokers.input.is_empty()), "made in an image");
    toolchain.images.kafka =
        Some(PartImage { name: "apache/kafka:4.3.1".to_owned(), digest: None, jars: "/opt/kafka/libs".into() });
    let of_others = planned(&spec, &toolchain, contained);
    assert!(of_others.part("kafka").is_some_and(|brokers| brokers.input.is_empty()), "in an image of others");
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
    assert!(error.to_string().contains("kafka among brokers: port 65600 lies outside 1 to 65535"), "{error}");
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

/// Goal: a plan for containers differs in where parts listen and what they run in, and in nothing that clients see.
#[test]
fn contained() {
    let spec = example();
    let contained =
        |spec: &Spec| Plan::new(spec, Scope::Everything, &toolchain(), Site { runtime: Runtime::Docker, ..site() });
    let (here, there) = (plan(&spec, Scope::Everything), contained(&spec).expect("it can be planned"));
    assert_eq!((&here.variables, &here.links), (&there.variables, &there.links));
    let images = |plan: &Plan| -> Vec<Option<String>> {
        plan.parts.iter().map(|part| Some(part.container.as_ref()?.image.split_once(':')?.0.to_owned())).collect()
    };
    assert_eq!(images(&here), [const { None }; 6]);
    let named = ["greenroom/kafka", "greenroom/postgres", "greenroom/redis"].map(|name| Some(name.to_owned()));
    assert_eq!(images(&there), [named.as_slice(), &[const { None }; 3]].concat(), "programs stay processes");
    let part = |name: &str| there.part(name).expect("it has the part");
    assert!(part("kafka").files[0].content.contains("\nlisteners=CLIENT://0.0.0.0:9092,"));
    assert!(part("kafka").files[0].content.contains("\nadvertised.listeners=CLIENT://127.18.4.7:9092,"));
    assert!(part("postgres").command.contains(&"listen_addresses=0.0.0.0".to_owned()));
    assert!(part("redis").command.join(" ").contains("--bind 0.0.0.0"));
}

/// Goal: images alone, of which none holds the others together, are refused.
#[test]
fn nothing_but_images() {
    let text = "name = \"shop\"\n[[programs]]\nname = \"shop\"\nimage = \"acme/shop\"\nport = 3000\n";
    let spec = spec::read_str(Path::new("shop.toml"), text).expect("a right description");
    let site = Site { runtime: Runtime::Docker, ..site() };
    let error = Plan::new(&spec, Scope::Everything, &toolchain(), site).expect_err("nobody holds them").to_string();
    assert_eq!(error, "shop is an image and nothing else runs in a container; add a broker, a store or a binary");
}

/// Goal: containers between whose brokers links stand listen where processes would, because the links are there.
#[test]
fn contained_between_links() {
    let mut spec = Spec { links: Links::All, ..example() };
    spec.kafka.as_mut().expect("it has brokers").layout = Layout::Separate;
    let [here, there] = [Runtime::Process, Runtime::Docker].map(|runtime| {
        Plan::new(&spec, Scope::Everything, &toolchain(), Site { runtime, ..site() }).expect("it can be planned")
    });
    assert_eq!((here.site.network, there.site.network), (Network::Machine, Network::Machine));
    assert_eq!((&here.variables, &here.links), (&there.variables, &there.links));
    let started = |plan: &Plan| -> Vec<_> {
        plan.parts.iter().map(|part| (part.command.clone(), part.files.clone(), part.addresses.clone())).collect()
    };
    assert_eq!(started(&here), started(&there));
    assert!(there.part("kafka-1").is_some_and(|part| part.container.is_some()));
}

/// Goal: a part in an image of others runs with the settings of ours, and with nothing that only our images hold; the
/// others stay as they are.
#[test]
fn in_images_of_others() {
    let image = |name: &str| Some(PartImage { name: name.to_owned(), digest: None, jars: "/opt/kafka/libs".into() });
    let images = PartImages { kafka: image("apache/kafka:4.3.1"), postgres: image("postgres:16"), redis: None };
    let mut toolchain = Toolchain { images, ..toolchain() };
    toolchain.kafka.classpath.extend(["/cache/jars/greenroom-launcher.jar".into(), "/cache/jars/slf4j-api.jar".into()]);
    let site = |runtime| Site { runtime, ..site() };
    let plan = |runtime| {
        Plan::new(&example(), Scope::Infrastructure, &toolchain, site(runtime)).expect("the example can be planned")
    };
    let there = plan(Runtime::Docker);
    let parts = ["kafka", "postgres"].map(|name| {
        let part = there.part(name).expect("it has the part");
        (&part.version, &part.directories, &part.copies, &part.container, &part.command)
    });
    insta::assert_debug_snapshot!(parts);
    let redis = there.part("redis").and_then(|part| part.container.as_ref()).expect("it runs in a container");
    assert!(redis.image.starts_with("greenroom/redis:"), "{}", redis.image);
    let here = plan(Runtime::Process);
    assert!(here.parts.iter().all(|part| part.container.is_none() && !part.version.contains("postgres:16")));
}
