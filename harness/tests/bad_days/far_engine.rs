//! A container engine whose processes are not this machine's, as in a virtual machine, or beside a Greenroom in a
//! container; and one whose users are not.
//!
//! Method: an engine of the test's own, which starts nothing and tells of every container that its first process has
//! the id of a process of somebody else's. No real engine is needed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};

use greenroom::parent_death::end_with_parent;
use greenroom::plan::Runtime;

use crate::commands::greenroom;
use crate::stand::{REDIS_ONLY, Stand, complaint};

/// An engine of the test's own.
#[derive(Clone, Copy)]
struct FarEngine {
    /// Every container of it is the process of this id.
    pid: u32,
    /// What it says of its security.
    security: &'static str,
}

/// Listens as an engine does.
fn listens(engine: FarEngine, socket: &Path) {
    let listener = UnixListener::bind(socket).expect("a socket");
    // It ends with the test's process.
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(client, engine));
        }
    });
}

/// Answers one request. Whoever waits for a container's end or its output hears nothing.
fn answer(mut client: UnixStream, FarEngine { pid, security }: FarEngine) -> std::io::Result<()> {
    let mut said = BufReader::new(client.try_clone()?);
    let (mut asked, mut length) = (String::new(), 0);
    said.read_line(&mut asked)?;
    loop {
        let mut line = String::new();
        said.read_line(&mut line)?;
        match line.trim().to_lowercase().split_once(':') {
            Some(("content-length", value)) => length = value.trim().parse().unwrap_or(0),
            Some(_) => {}
            None => break,
        }
    }
    said.read_exact(&mut vec![0; length])?;
    let (status, body) = match asked.as_str() {
        asked if asked.contains("/attach") => ("101 UPGRADED", String::new()),
        asked if asked.contains("/wait") => return said.read_to_end(&mut Vec::new()).map(drop),
        asked if asked.contains("/version") => ("200 OK", r#"{"Version":"20.10","ApiVersion":"1.41"}"#.to_owned()),
        asked if asked.contains("/info") => ("200 OK", format!(r#"{{"SecurityOptions":["{security}"]}}"#)),
        asked if asked.contains("/containers/json") => ("200 OK", "[]".to_owned()),
        asked if asked.contains("/create") => ("201 Created", r#"{"Id":"far","Warnings":[]}"#.to_owned()),
        asked if asked.starts_with("GET") => ("200 OK", format!(r#"{{"Id":"far","State":{{"Pid":{pid}}}}}"#)),
        _ => ("204 No Content", String::new()),
    };
    let head = match status {
        "101 UPGRADED" => {
            "Content-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp".to_owned()
        }
        "204 No Content" => "Connection: close".to_owned(),
        _ => format!("Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}", body.len()),
    };
    client.write_all(format!("HTTP/1.1 {status}\r\n{head}\r\n\r\n{body}").as_bytes())?;
    if status == "101 UPGRADED" {
        said.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

/// A process of somebody else's, in a group of its own.
fn bystander() -> Child {
    let mut command = Command::new("sleep");
    command.arg("600").process_group(0);
    end_with_parent(&mut command);
    command.spawn().expect("it runs")
}

/// Goal: a process that only has the id that an engine tells is not taken for a container's, and outlives the
/// environment; what is wrong is told, with what to do.
#[tokio::test]
async fn a_process_that_is_no_container_is_left_alone() {
    let stand = Stand::new();
    let mut bystander = bystander();
    let socket = stand.path().join("engine.sock");
    listens(FarEngine { pid: bystander.id(), security: "name=seccomp,profile=default" }, &socket);
    let mut order = stand.order(REDIS_ONLY);
    (order.runtime, order.engine) = (Runtime::Docker, format!("unix://{}", socket.display()));
    order.deadline_ms = 40_000;
    let said = complaint(stand.lease(order).await);
    assert!(bystander.try_wait().expect("its state").is_none(), "somebody else's process was ended; {said}");
    assert!(said.contains("the processes of its containers are not seen from here"), "{said}");
    assert!(said.contains("use an engine that runs on this machine"), "{said}");
    bystander.kill().and_then(|()| bystander.wait()).expect("it ends");
}

/// Goal: an engine whose containers could not write the environment's directory is told as that, and by `doctor` too.
#[tokio::test]
async fn an_engine_with_users_of_its_own_is_told() {
    for security in ["name=rootless", "name=userns"] {
        let stand = Stand::new();
        let socket = stand.path().join("engine.sock");
        listens(FarEngine { pid: std::process::id(), security }, &socket);
        let engine = format!("unix://{}", socket.display());
        let mut order = stand.order(REDIS_ONLY);
        (order.runtime, order.engine) = (Runtime::Docker, engine.clone());
        let told = complaint(stand.lease(order).await);
        let doctor = greenroom(&stand, &["test-env", "doctor", "--runtime", "docker"], &[("DOCKER_HOST", &engine)]);
        for said in [told, String::from_utf8_lossy(&doctor.stdout).into_owned()] {
            assert!(said.contains("it is rootless, or remaps them"), "{security}: {said}");
            assert!(said.contains("use an engine that root runs"), "{security}: {said}");
        }
    }
}
