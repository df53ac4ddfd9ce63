//! Bad input on the command line: told in words, exit code not 0, nothing started.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use crate::stand::{REDIS_ONLY, Stand};

pub(crate) fn greenroom(stand: &Stand, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_greenroom"))
        .args(arguments)
        .env("GREENROOM_STATE", stand.path())
        .envs(variables.iter().copied())
        .output()
        .expect("the command runs")
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn description(stand: &Stand, text: &str) -> String {
    let path = stand.path().join("environment.toml");
    std::fs::write(&path, text).expect("a description");
    path.display().to_string()
}

#[test]
fn a_missing_jdk_is_named() {
    let stand = Stand::new();
    let path = description(&stand, REDIS_ONLY);
    let arguments = ["test-env", "up", "--description", &path];
    let output = greenroom(&stand, &arguments, &[("GREENROOM_JAVA_HOME", "/nowhere/jdk")]);
    assert!(!output.status.success());
    assert!(said(&output).contains("/nowhere/jdk"), "{}", said(&output));
    assert!(said(&output).contains("hint:"), "{}", said(&output));
}

#[test]
fn a_bad_description_is_told_by_line_and_column() {
    let stand = Stand::new();
    let path = description(&stand, "name = \"stand\"\n[redis]\nprot = 6379\n");
    let output = greenroom(&stand, &["test-env", "up", "--description", &path], &[]);
    assert!(!output.status.success());
    assert!(said(&output).contains("environment.toml:3:1: unknown field `prot`"), "{}", said(&output));
}

#[test]
fn a_command_that_does_not_exist_starts_nothing() {
    let stand = Stand::new();
    let path = description(&stand, REDIS_ONLY);
    let output = greenroom(&stand, &["test-env", "run", "--description", &path, "--", "no-such-command"], &[]);
    assert_eq!(output.status.code(), Some(127));
    assert!(said(&output).contains("there is no command no-such-command; nothing was started"), "{}", said(&output));
    assert!(!stand.house().path().exists(), "a supervisor was started");
}

#[test]
fn output_and_exit_code_of_a_command_pass_through() {
    let stand = Stand::new();
    let path = description(&stand, &format!("{REDIS_ONLY}[variables]\nREDIS_URL = \"{{redis.url}}\"\n"));
    let script = "echo \"$REDIS_URL\"; echo complaint >&2; exit 42";
    let output = greenroom(&stand, &["test-env", "run", "--description", &path, "--", "sh", "-c", script], &[]);
    assert_eq!(output.status.code(), Some(42), "{}", said(&output));
    let url = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(url.starts_with("redis://127.") && url.ends_with(":6379"), "{url}");
    assert!(said(&output).contains("complaint"), "{}", said(&output));
}

#[test]
fn unknown_options_systems_and_environments_are_told() {
    let stand = Stand::new();
    for (arguments, expected) in [
        (vec!["test-env", "up", "--colour"], "unexpected argument '--colour'"),
        (vec!["test-env", "up", "--layout", "scattered"], "invalid value 'scattered'"),
        (vec!["test-env", "up", "opera"], "there is no system opera; the systems are"),
        (vec!["test-env", "up", "--description", "/nowhere.toml"], "failed to read the description /nowhere.toml"),
        (vec!["test-env", "down", "opera-1-1"], "no environment runs"),
        (vec!["test-env", "logs", "kafka"], "no environment runs"),
    ] {
        let output = greenroom(&stand, &arguments, &[]);
        assert!(!output.status.success(), "{arguments:?} succeeded");
        assert!(said(&output).contains(expected), "{arguments:?} said: {}", said(&output));
    }
}

/// An engine that says of itself that it speaks this API.
fn engine_that_speaks(stand: &Stand, api: &'static str) -> String {
    let socket = stand.path().join("engine.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    // It ends with the test's process.
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let _ = std::io::Read::read(&mut client, &mut [0; 4096]);
            let body = format!("{{\"Version\":\"17.06\",\"ApiVersion\":\"{api}\"}}");
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
            let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            let _ = std::io::Write::write_all(&mut client, answer.as_bytes());
        }
    });
    format!("unix://{}", socket.display())
}

/// Goal: an engine that does not answer, is elsewhere or is too old is named, with what to do, and nothing is started.
#[test]
fn an_engine_that_will_not_do_is_named() {
    // One supervisor for all: which engine is asked is said by the client, and not by whoever started the supervisor.
    let stand = Stand::new();
    let path = description(&stand, REDIS_ONLY);
    let old = engine_that_speaks(&stand, "1.30");
    for (host, named) in [
        ("unix:///nowhere/docker.sock", "no container engine answers at /nowhere/docker.sock"),
        ("tcp://192.0.2.1:2375", "DOCKER_HOST is tcp://192.0.2.1:2375, but containers share directories"),
        (&*old, "the container engine speaks API 1.30, and 1.41 is needed"),
    ] {
        let arguments = ["test-env", "up", "--runtime", "docker", "--description", &path];
        let output = greenroom(&stand, &arguments, &[("DOCKER_HOST", host)]);
        assert!(!output.status.success());
        assert!(said(&output).contains(named), "{}", said(&output));
        assert!(said(&output).contains("hint: "), "{}", said(&output));
        let listed = greenroom(&stand, &["images", "list"], &[("DOCKER_HOST", host)]);
        assert!(!listed.status.success() && said(&listed).contains(named), "{}", said(&listed));
    }
}

/// Goal: a file that somebody else wrote is not overwritten, and one of ours is.
#[test]
fn only_our_own_env_file_is_replaced() {
    let stand = Stand::new();
    let (path, file) = (description(&stand, REDIS_ONLY), stand.path().join("own.env"));
    let file_name = file.display().to_string();
    let up = ["test-env", "up", "--detach", "--env-file", &file_name, "--description", &path];
    std::fs::write(&file, "MY_SECRET=kept\n").expect("a file");
    let refused = greenroom(&stand, &up, &[]);
    assert!(!refused.status.success());
    assert!(said(&refused).contains("is not one of ours, and nothing of yours is overwritten"), "{}", said(&refused));
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "MY_SECRET=kept\n");

    std::fs::remove_file(&file).expect("the file goes");
    for _ in 0..2 {
        let started = greenroom(&stand, &up, &[]);
        assert!(started.status.success(), "{}", said(&started));
        let text = std::fs::read_to_string(&file).expect("the file");
        assert!(text.lines().skip(1).all(|line| line.contains('=')) && text.starts_with("# "), "{text}");
        // A script takes the id from the output, which is nothing else.
        let id = String::from_utf8(started.stdout).expect("an id");
        let ended = greenroom(&stand, &["test-env", "down", id.trim_end()], &[]);
        assert!(ended.status.success(), "{id:?}: {}", said(&ended));
    }
}

/// Goal: what contradicts itself starts nothing.
#[test]
fn infrastructure_has_no_place_for_a_service() {
    let stand = Stand::new();
    let path = description(&stand, REDIS_ONLY);
    for service in [["--service", "true"], ["--service-image", "shop:1"]] {
        let up = ["test-env", "up", "--only", "infrastructure", "--description", &path];
        let refused = greenroom(&stand, &[&up[..], &service].concat(), &[]);
        assert!(!refused.status.success());
        assert!(said(&refused).contains("cannot be used with"), "{}", said(&refused));
    }
}

#[test]
fn a_runtime_that_does_not_exist_is_named() {
    let stand = Stand::new();
    let path = description(&stand, REDIS_ONLY);
    let arguments = ["test-env", "up", "--description", &path];
    let output = greenroom(&stand, &arguments, &[("GREENROOM_RUNTIME", "podman")]);
    assert!(!output.status.success());
    assert!(
        said(&output).contains("GREENROOM_RUNTIME is \"podman\"; expected `process` or `docker`"),
        "{}",
        said(&output)
    );
}

/// Goal: the list of images decides what parts run in where they run in containers, and what is wrong with it is told;
/// where they are processes nobody reads it.
#[test]
fn the_list_of_images_is_read_for_containers() {
    let stand = Stand::new();
    let path = description(&stand, REDIS_ONLY);
    let list = stand.path().join("images.toml");
    let plan = |runtime: &str, text: &str| {
        std::fs::write(&list, text).expect("there is room");
        let arguments = ["test-env", "plan", "--description", &path, "--runtime", runtime];
        greenroom(&stand, &arguments, &[("GREENROOM_IMAGES", &list.display().to_string())])
    };
    let text = "[redis]\nimage = \"of.others:5000/redis\"\nversion = \"8\"\n";
    let chosen = plan("docker", text);
    assert!(String::from_utf8_lossy(&chosen.stdout).contains("\n  runs in of.others:5000/redis:8\n"), "{chosen:?}");
    let built = plan("docker", &format!("{text}use = false\n"));
    assert!(String::from_utf8_lossy(&built.stdout).contains("\n  runs in greenroom/redis:"), "{built:?}");
    let wrong = plan("docker", &format!("{text}ues = false\n"));
    assert!(!wrong.status.success());
    let told = format!("the list of images {} is wrong in line 4: unknown field `ues`", list.display());
    assert!(said(&wrong).contains(&told), "{}", said(&wrong));
    assert!(plan("process", "nonsense").status.success());
}

/// Goal: what has not been used for a while is removed and told of; what is new, in use or nobody's stays, and a dry
/// run removes nothing.
#[test]
fn what_nobody_uses_is_removed() {
    let stand = Stand::new();
    let (cache, target) = (stand.path().join("cache"), stand.path().join("target"));
    let failures = target.join("greenroom/failures");
    let make = |directory: &Path, file: &str, text: &str, old: bool| {
        std::fs::create_dir_all(directory).expect("there is room");
        std::fs::write(directory.join(file), text).expect("there is room");
        let days = Duration::from_secs(if old { 20 } else { 1 } * 24 * 60 * 60);
        let time = SystemTime::now() - days;
        for path in [directory.join(file), directory.to_owned()] {
            std::fs::File::open(path).and_then(|file| file.set_modified(time)).expect("times can be set");
        }
        directory.to_owned()
    };
    let entry = |name: &str, old| make(&cache.join(name), ".manifest", "greenroom-entry 1 7\n", old);
    let gone = [make(&failures.join("shop-1-1"), "error.txt", "", true), entry("jars-0123456789abcdef", true)];
    let running = entry("redis-0123456789abcdef", true);
    let stays = [
        running.clone(),
        make(&failures.join("shop-1-2"), "error.txt", "", false),
        entry("jars-fedcba9876543210", false),
        entry("mine", true),
        make(&cache.join("notes-0123456789abcdef"), ".manifest", "of somebody else", true),
    ];
    let mut server = Command::new("sh");
    server.args(["-c", "read line", "server"]).arg(running.join("redis-server"));
    let mut server = server.stdin(Stdio::piped()).spawn().expect("a shell runs");
    let path = |path: &Path| path.display().to_string();
    let variables = [("GREENROOM_CACHE", path(&cache)), ("CARGO_TARGET_DIR", path(&target))];
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let gc = |more: &[&str]| {
        let output = greenroom(&stand, &[&["test-env", "gc"], more].concat(), &variables);
        assert!(output.status.success(), "{}", said(&output));
        (String::from_utf8_lossy(&output.stdout).into_owned(), said(&output))
    };
    let (would, _) = gc(&["--dry-run"]);
    assert!(gone.iter().all(|gone| would.contains(&path(gone)) && gone.exists()), "{would}");
    let (removed, told) = gc(&[]);
    server.kill().and_then(|()| server.wait()).expect("it ends");
    for gone in &gone {
        assert!(!gone.exists() && removed.contains(&format!("removed {}", path(gone))), "{removed}");
    }
    assert!(stays.iter().all(|stays| stays.exists()), "{removed}");
    assert!(told.contains(&format!("{} stays: something runs from it", path(&running))), "{told}");
    assert!(gc(&["--older-than", "30"]).0.is_empty());
}

/// Goal: a CRIU that cannot restore makes starts slower and fails nothing, unless a person has named it.
#[test]
fn a_criu_that_does_not_work_is_told_and_done_without() {
    let stand = Stand::new();
    let programs = stand.path().join("programs");
    std::fs::create_dir(&programs).expect("a directory");
    let criu = programs.join("criu");
    std::os::unix::fs::symlink("/bin/false", &criu).expect("a program that fails");
    let criu = criu.display().to_string();
    let path = std::env::var("PATH").map(|path| format!("{}:{path}", programs.display())).expect("a path");
    let plan = |variables: &[(&str, &str)]| {
        let always = [("PATH", path.as_str()), ("GREENROOM_RUNTIME", "process")];
        greenroom(&stand, &["test-env", "plan", "echo"], &[&always, variables].concat())
    };
    let (found, again, named) =
        (plan(&[("GREENROOM_CRIU", "")]), plan(&[("GREENROOM_CRIU", "")]), plan(&[("GREENROOM_CRIU", &criu)]));
    let refusals = remove_refusals_of(&criu);

    let why = format!("{criu} does not tell its version");
    assert!(
        said(&found).contains(&format!("there is none, which only makes starts slower: {why}")),
        "{}",
        said(&found)
    );
    let planned = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(planned.contains("/bin/java\n") && !planned.contains("restore.sh"), "{planned}");
    // It is told once, and kept.
    assert!(again.status.success() && !said(&again).contains(&why), "{}", said(&again));
    assert_eq!(refusals, 1);
    assert!(!named.status.success() && said(&named).contains(&why), "{}", said(&named));
}

/// Removes what the cache keeps of a CRIU that did not work, and says how much that was.
fn remove_refusals_of(criu: &str) -> usize {
    let cache = greenroom::artifacts::cache_directory().expect("a cache");
    let entries = std::fs::read_dir(cache).expect("what is stored").flatten().map(|entry| entry.path());
    let tells = |entry: &std::path::PathBuf| {
        std::fs::read_to_string(entry.join("refused")).is_ok_and(|refused| refused.contains(criu))
    };
    let refusals: Vec<_> = entries.filter(tells).collect();
    refusals.iter().for_each(|refusal| std::fs::remove_dir_all(refusal).expect("it goes"));
    refusals.len()
}
