//! Parts in images that others have made.
//!
//! Method: images of the same programs as ours, but found where such images have them: on the PATH, at `JAVA_HOME` and
//! in `/opt/kafka/libs`, without our jars and class archives. They are made here over ours and removed afterwards.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use greenroom::docker::images;
use greenroom::environment::chosen_runtime;
use greenroom::plan::{Plan, Runtime};
use greenroom::supervisor::protocol::{Action, PartSignal};
use greenroom::toolchain::{PartImage, PartImages};

use super::containers_of;
use crate::crowd::docker;
use crate::stand::{GONE, INFRASTRUCTURE, REDIS_ONLY, Stand, becomes_empty, complaint, processes_of};

/// Images for all parts. Removed when dropped.
struct Others {
    kafka: String,
    postgres: String,
    redis: String,
}

impl Others {
    /// Makes them, where environments are containers.
    fn made(stand: &Stand) -> Option<Self> {
        if chosen_runtime().expect("a runtime") == Runtime::Process {
            return None;
        }
        let tools = &stand.toolchain;
        let tag = std::process::id();
        let others = Self {
            kafka: format!("others/kafka:{tag}"),
            postgres: format!("others/postgres:{tag}"),
            redis: format!("others/redis:{tag}"),
        };
        let jars = tools.kafka.classpath[0].parent().expect("jars lie in a directory").display();
        let kafka = format!(
            "ENV JAVA_HOME={}\nRUN mkdir -p /opt/kafka/libs && ln -s {jars}/*.jar /opt/kafka/libs \
             && rm /opt/kafka/libs/greenroom-* /opt/kafka/libs/slf4j-*",
            tools.jdk.home.display()
        );
        let postgres = format!("ENV PATH={}/bin:/usr/bin:/bin", tools.postgres.home.display());
        let redis = format!("RUN ln -s {} /usr/bin/redis-server", tools.redis.binary.display());
        build(&others.kafka, &images::kafka(tools).name, &kafka);
        build(&others.postgres, &images::postgres(tools).name, &postgres);
        build(&others.redis, &images::redis(tools).name, &redis);
        Some(others)
    }

    fn chosen(&self) -> PartImages {
        let image = |name: &str| {
            let digest = docker(&["image", "inspect", "--format", "{{.Id}}", name]).trim().to_owned();
            Some(PartImage { name: name.to_owned(), digest: Some(digest), jars: "/opt/kafka/libs".into() })
        };
        PartImages { kafka: image(&self.kafka), postgres: image(&self.postgres), redis: image(&self.redis) }
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        let names = [&self.kafka, &self.postgres, &self.redis];
        let _ = Command::new("docker").args(["rmi", "--force"]).args(names).stdout(Stdio::null()).status();
    }
}

/// Builds an image over one of ours.
fn build(name: &str, over: &str, lines: &str) {
    let mut building = Command::new("docker")
        .args(["build", "--quiet", "--tag", name, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the engine's command line runs");
    let mut dockerfile = building.stdin.take().expect("its input");
    write!(dockerfile, "FROM {over}\n{lines}\n").expect("it reads its input");
    drop(dockerfile);
    assert!(building.wait().expect("it ends").success(), "{name} is built");
}

fn runs_in<'a>(plan: &'a Plan, part: &str) -> (&'a str, &'a str) {
    let part = plan.part(part).expect("the plan has the part");
    (&part.container.as_ref().expect("it runs in a container").image, &part.version)
}

/// Goal: brokers, a database and a cache run in images that others have made, keep their data when they are started
/// again, and leave as little behind as in ours.
#[tokio::test]
async fn an_environment_runs_in_images_of_others() {
    let stand = Stand::new();
    let Some(others) = Others::made(&stand) else { return };
    let mut order = stand.order(INFRASTRUCTURE);
    order.toolchain.images = others.chosen();
    let mut lease = stand.lease(order).await.expect("it starts");
    let plan = lease.plan.clone();
    for (part, image) in [("kafka", &others.kafka), ("postgres", &others.postgres), ("redis", &others.redis)] {
        assert_eq!(runs_in(&plan, part), (image.as_str(), image.as_str()));
    }
    let address = plan.part("postgres").expect("it has one").addresses[0];
    let url = format!("postgres://postgres@{address}/shop?sslmode=disable");
    let database = sqlx::PgPool::connect(&url).await.expect("the database answers");
    sqlx::raw_sql("CREATE TABLE kept AS SELECT 7 AS number").execute(&database).await.expect("it takes a table");
    database.close().await;

    lease.act(Action::Signal { part: "postgres".to_owned(), signal: PartSignal::Kill }).await.expect("it is killed");
    lease.act(Action::Restart { part: "postgres".to_owned() }).await.expect("it starts again");
    let database = sqlx::PgPool::connect(&url).await.expect("the database answers again");
    let kept: i32 = sqlx::query_scalar("SELECT number FROM kept").fetch_one(&database).await.expect("it is kept");
    assert_eq!(kept, 7);
    database.close().await;

    lease.release().await.expect("it is given back");
    becomes_empty(GONE, "processes", || processes_of(&plan)).await;
    becomes_empty(GONE, "containers", || containers_of(&stand)).await;
    let mut order = stand.order("name = \"stand\"\n[kafka]\n");
    order.toolchain.images = others.chosen();
    order.toolchain.images.kafka.as_mut().expect("it is chosen").jars = "/nowhere".into();
    let said = complaint(stand.lease(order).await);
    assert!(said.contains("in an image of others, `jars` says where they lie"), "{said}");
    becomes_empty(GONE, "containers", || containers_of(&stand)).await;
    let left = || Some(plan.site.directory.clone()).filter(|path| Path::exists(path)).into_iter().collect();
    becomes_empty(GONE, "the environment's directory", left).await;
}

/// Goal: an image that is another one than the list pins, and one that is missing, are told before anything starts.
#[tokio::test]
async fn an_image_that_is_not_the_pinned_one_is_refused() {
    let stand = Stand::new();
    if chosen_runtime().expect("a runtime") == Runtime::Process {
        return;
    }
    let name = images::redis(&stand.toolchain).name;
    let pinned = format!("sha256:{}", "0".repeat(64));
    let order = |name: &str| {
        let image = PartImage { name: name.to_owned(), digest: Some(pinned.clone()), jars: "/opt/kafka/libs".into() };
        let mut order = stand.order(REDIS_ONLY);
        order.toolchain.images.redis = Some(image);
        order
    };
    let said = complaint(stand.lease(order(&name)).await);
    assert!(
        said.contains(&format!("the image {name} for redis is not the one of {pinned}: here it is sha256:")),
        "{said}"
    );
    assert!(said.contains("`cargo xtask images pull` fetches the one that is pinned"), "{said}");
    let said = complaint(stand.lease(order("others/redis:none")).await);
    assert!(said.contains("there is no image others/redis:none for redis"), "{said}");
    assert!(said.contains("get another one by `cargo xtask images pull`"), "{said}");
    // The same for a person, whose list it stands in.
    let (list, description) = (stand.path().join("images.toml"), stand.path().join("stand.toml"));
    let (repository, tag) = name.split_once(':').expect("it has a tag");
    let redis = format!("image = \"{repository}\"\nversion = \"{tag}\"\ndigest = \"{pinned}\"");
    std::fs::write(&list, format!("[redis]\n{redis}\n")).expect("there is room");
    std::fs::write(&description, REDIS_ONLY).expect("there is room");
    let up = Command::new(env!("CARGO_BIN_EXE_greenroom"))
        .args(["test-env", "up", "--runtime", "docker", "--description"])
        .arg(&description)
        .env("GREENROOM_STATE", stand.path())
        .env("GREENROOM_IMAGES", &list)
        .output()
        .expect("the command runs");
    let said = String::from_utf8_lossy(&up.stderr);
    assert!(
        !up.status.success() && said.contains(&format!("the image {name} for redis is not the one of {pinned}")),
        "{said}"
    );
    assert_eq!(containers_of(&stand), Vec::<String>::new());
}
