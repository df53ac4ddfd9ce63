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

/// An image that is made here. Removed when dropped.
pub(super) struct Made(String);

impl Made {
    /// Builds it over one of ours.
    pub(super) fn over(ours: &str, name: &str, lines: &str) -> Self {
        let made = Self(format!("others/{name}:{}", std::process::id()));
        let mut building = Command::new("docker")
            .args(["build", "--quiet", "--tag", &made.0, "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the engine's command line runs");
        let mut dockerfile = building.stdin.take().expect("its input");
        write!(dockerfile, "FROM {ours}\n{lines}\n").expect("it reads its input");
        drop(dockerfile);
        assert!(building.wait().expect("it ends").success(), "{} is built", made.0);
        made
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    fn chosen(&self) -> Option<PartImage> {
        let digest = docker(&["image", "inspect", "--format", "{{.Id}}", &self.0]).trim().to_owned();
        Some(PartImage { name: self.0.clone(), digest: Some(digest), jars: "/opt/kafka/libs".into() })
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", "--force", &self.0]).stdout(Stdio::null()).status();
    }
}

/// Images for all parts.
struct Others {
    kafka: Made,
    postgres: Made,
    redis: Made,
}

impl Others {
    /// Makes them, where environments are containers.
    fn made(stand: &Stand) -> Option<Self> {
        if chosen_runtime().expect("a runtime") == Runtime::Process {
            return None;
        }
        let tools = &stand.toolchain;
        let jars = tools.kafka.classpath[0].parent().expect("jars lie in a directory").display();
        let kafka = format!(
            "ENV JAVA_HOME={}\nRUN mkdir -p /opt/kafka/libs && ln -s {jars}/*.jar /opt/kafka/libs \
             && rm /opt/kafka/libs/greenroom-* /opt/kafka/libs/slf4j-*",
            tools.jdk.home.display()
        );
        let postgres = format!("ENV PATH={}/bin:/usr/bin:/bin", tools.postgres.home.display());
        let redis = format!("RUN ln -s {} /usr/bin/redis-server", tools.redis.binary.display());
        Some(Self {
            kafka: Made::over(&images::kafka(tools).name, "kafka", &kafka),
            postgres: Made::over(&images::postgres(tools).name, "postgres", &postgres),
            redis: Made::over(&images::redis(tools).name, "redis", &redis),
        })
    }

    fn chosen(&self) -> PartImages {
        PartImages { kafka: self.kafka.chosen(), postgres: self.postgres.chosen(), redis: self.redis.chosen() }
    }
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
        assert_eq!(runs_in(&plan, part), (&*image.0, &*image.0));
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

/// Goal: an image in which nothing can run is told by its name, with what it said last, and nothing is left.
/// Method: its `cat`, which holds an environment, ends at once.
#[tokio::test]
async fn an_image_in_which_nothing_stays_is_told() {
    let stand = Stand::new();
    if chosen_runtime().expect("a runtime") == Runtime::Process {
        return;
    }
    let cat =
        "printf '#!/bin/sh\\necho not in here >&2\\nexit 3\\n' >/usr/local/bin/cat && chmod 755 /usr/local/bin/cat";
    let made = Made::over(&images::redis(&stand.toolchain).name, "restless", &format!("USER root\nRUN {cat}"));
    let mut order = stand.order(REDIS_ONLY);
    order.toolchain.images.redis = made.chosen();
    let said = complaint(stand.lease(order).await);
    let told = format!("of the image {}, ended as soon as it was started, with exit code 3: not in here", made.0);
    assert!(said.contains(&told), "{said}");
    becomes_empty(GONE, "containers", || containers_of(&stand)).await;
}
