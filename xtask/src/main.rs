//! The project's commands: builds what they need and hands over.
//!
//! `test-env`, `images` and `bench` are the `greenroom` binary's; `test` is cargo-nextest's; `lint` is Cargo's own.
//!
//! Deliberately absent: dependencies, and logic other than what the tools' own configuration cannot say, so that the
//! first command of a day starts at once.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// The version that CI and everyone else runs.
const NEXTEST_VERSION: &str = "0.9.151";
/// Says what the brokers and stores of environments run as.
const RUNTIME_VARIABLE: &str = "GREENROOM_RUNTIME";
/// How many tests nextest runs at once, whatever its configuration says; arguments are stronger.
const TEST_THREADS_VARIABLE: &str = "NEXTEST_TEST_THREADS";
/// What `test` takes itself instead of handing it to nextest, each with a value.
const SERVICE_OPTIONS: [&str; 4] = ["--service", "--service-image", "--service-address", "--service-port"];
/// How long a person may wait without a word.
const SILENCE: Duration = Duration::from_secs(2);
const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [ARGUMENTS]   run every test under cargo-nextest, installed if missing; ARGUMENTS are nextest's
  test --runtime docker [ARGUMENTS]
                     the same with brokers and stores in containers
  test --service COMMAND | --service-image IMAGE [--service-port N] [ARGUMENTS]
                     run the default system's stories against another implementation of it, and print the verdicts
  test --service-address HOST:PORT [ARGUMENTS]
                     the same with one that you start by hand, in a debugger for instance
  test-env …         environments by hand: up, run, status, logs, down, fault, doctor, gc, plan (see test-env --help)
  images …           what `--runtime docker` is made from: build, program, pull, list (see images --help)
  bench …            measurements (see bench --help)
  lint               formatting and lints, as CI wants them

examples:
  cargo xtask test-env up --only infrastructure --detach --env-file .env
  cargo xtask test --runtime docker
  cargo xtask test --service 'npm start'
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.first().map(String::as_str) {
        Some("test") => test(&arguments[1..]),
        Some("test-env" | "images" | "bench") => greenroom(&arguments, None, features(&arguments)),
        Some("lint") => lint(),
        Some("help" | "--help" | "-h") => {
            say(USAGE);
            Ok(())
        }
        Some(other) => Err(Failed::Because(format!("there is no command {other}\n\n{USAGE}"))),
        None => Err(Failed::Because(USAGE.to_owned())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever failed has said why.
        Err(Failed::With(code)) => ExitCode::from(code),
        Err(Failed::Because(message)) => {
            say(&format!("error: {message}"));
            ExitCode::FAILURE
        }
    }
}

enum Failed {
    With(u8),
    Because(String),
}

/// What a command needs built that others do without: a benchmark of containers compares them with plain
/// testcontainers.
fn features(arguments: &[String]) -> &'static [&'static str] {
    // What is no runtime is the command's to tell of.
    let named = runtime(arguments).ok().and_then(|(named, _)| named).or_else(|| std::env::var(RUNTIME_VARIABLE).ok());
    let is_bench = arguments.first().is_some_and(|command| command == "bench");
    if is_bench && named.as_deref() == Some("docker") { &["--features", "greenroom/comparison"] } else { &[] }
}

/// Hands over to the harness's own binary.
fn greenroom(arguments: &[String], runtime: Option<&str>, features: &[&str]) -> Result<(), Failed> {
    build(features)?;
    let binaries = binaries()?;
    let mut command = Command::new(binaries.join("greenroom"));
    command
        .args(arguments)
        .env("GREENROOM_BINARIES", &binaries)
        .envs(runtime.map(|runtime| (RUNTIME_VARIABLE, runtime)));
    become_program(&mut command)
}

/// From here on this process is that one: signals reach it, and its exit code is ours.
fn become_program(command: &mut Command) -> Result<(), Failed> {
    let error = std::os::unix::process::CommandExt::exec(command);
    Err(cannot_run(command, &error))
}

fn test(arguments: &[String]) -> Result<(), Failed> {
    let nextest = nextest()?;
    let (runtime, arguments) = runtime(arguments)?;
    let runtime = runtime.or_else(|| std::env::var(RUNTIME_VARIABLE).ok());
    let (service, arguments) = of_the_service(&arguments);
    if !service.is_empty() {
        let judge = ["judge", "--nextest"].map(str::to_owned).into_iter().chain([nextest.display().to_string()]);
        return greenroom(&judge.chain(service).chain(arguments).collect::<Vec<_>>(), runtime.as_deref(), &[]);
    }
    build(&[])?;
    if arguments.iter().any(|argument| ["--help", "-h"].contains(&argument.as_str())) {
        say(&format!("{USAGE}\nwhat follows is nextest's\n"));
    }
    let mut command = Command::new(nextest);
    let chosen =
        arguments.iter().any(|argument| ["--profile", "-P"].contains(&argument.split('=').next().unwrap_or("")));
    if runtime.as_deref() == Some("docker") && !chosen {
        command.env("NEXTEST_PROFILE", "docker");
    }
    command.args(["nextest", "run", "--workspace"]).args(&arguments).env("GREENROOM_BINARIES", binaries()?);
    // nextest warns of a number that it has no use for.
    let has_no_use =
        arguments.iter().any(|argument| ["--no-run", "--no-capture", "--nocapture"].contains(&argument.as_str()));
    if !has_no_use && std::env::var_os(TEST_THREADS_VARIABLE).is_none() {
        command.env(TEST_THREADS_VARIABLE, stories_at_once().to_string());
    }
    become_program(command.envs(runtime.map(|runtime| (RUNTIME_VARIABLE, runtime))))
}

/// A story waits for timers some of its time, so half again as many as there are processors keep those busy (measured
/// on two). nextest's own configuration knows numbers and the number of processors.
fn stories_at_once() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    processors + processors.div_ceil(2)
}

/// What environments shall run as, where the arguments say it, and the other arguments.
fn runtime(arguments: &[String]) -> Result<(Option<String>, Vec<String>), Failed> {
    let (said, others) = apart(arguments, &["--runtime"]);
    let runtime = said.into_iter().last().map(|(_, value)| value.unwrap_or_default());
    match runtime.as_deref() {
        None | Some("process" | "docker") => Ok((runtime, others)),
        Some(other) => Err(Failed::Because(format!("--runtime {other}: expected `process` or `docker`"))),
    }
}

/// What the arguments say of a service in the place of ours, wherever they say it, and the other arguments.
fn of_the_service(arguments: &[String]) -> (Vec<String>, Vec<String>) {
    // What follows is the tests' own.
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    let (said, mut others) = apart(&arguments[..end], &SERVICE_OPTIONS);
    others.extend_from_slice(&arguments[end..]);
    let said = said.into_iter().map(|(name, value)| value.map_or(name.clone(), |value| format!("{name}={value}")));
    (said.collect(), others)
}

/// The options of these names with their values, where they have one, and the other arguments.
fn apart(arguments: &[String], names: &[&str]) -> (Vec<(String, Option<String>)>, Vec<String>) {
    let (mut taken, mut others) = (Vec::new(), Vec::new());
    let mut arguments = arguments.iter().cloned();
    while let Some(argument) = arguments.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        if names.contains(&name) {
            taken.push((name.to_owned(), value.or_else(|| arguments.next())));
        } else {
            others.push(argument);
        }
    }
    (taken, others)
}

fn lint() -> Result<(), Failed> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    // Defects that can be put back, failpoints and comparisons are features; what is there without them is not there
    // with them, so both are looked at.
    for features in [&[][..], &["--all-features"]] {
        let clippy = ["clippy", "--workspace", "--all-targets", "--quiet"];
        run(cargo().args(clippy).args(features).args(["--", "--deny", "warnings"]))?;
    }
    Ok(())
}

/// Builds every binary of the workspace.
fn build(features: &[&str]) -> Result<(), Failed> {
    run_build(cargo().args(["build", "--workspace", "--bins"]).args(features).env("CARGO_TERM_QUIET", quiet()))
}

/// Runs Cargo's build, and says so where that takes longer than a look at what is there.
fn run_build(command: &mut Command) -> Result<(), Failed> {
    let (done, waiting) = std::sync::mpsc::channel::<()>();
    let telling = std::thread::spawn(move || {
        if waiting.recv_timeout(SILENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            say("building the workspace, or waiting for another build");
        }
    });
    let ran = run(command);
    drop(done);
    let _ = telling.join();
    ran
}

/// Cargo tells of its progress only where there is a person or a log to read it for the first, long build.
fn quiet() -> &'static str {
    let built = binaries().is_ok_and(|directory| directory.join("greenroom").exists());
    if built { "true" } else { "false" }
}

/// The pinned cargo-nextest: the installed one where it is of this version, else one of the project's own.
fn nextest() -> Result<PathBuf, Failed> {
    let installed = Command::new("cargo-nextest").args(["nextest", "--version"]).output();
    let fits = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).contains(NEXTEST_VERSION);
    if installed.is_ok_and(|output| fits(&output)) {
        return Ok(PathBuf::from("cargo-nextest"));
    }
    let own = tools()?.join(format!("cargo-nextest-{NEXTEST_VERSION}"));
    let binary = own.join("bin").join("cargo-nextest");
    if !binary.is_file() {
        say(&format!("installing cargo-nextest {NEXTEST_VERSION} (once, some minutes)"));
        let install = ["install", "cargo-nextest", "--version", NEXTEST_VERSION, "--locked"];
        // It runs for minutes at most: built without link-time optimisation and without the parts that update it.
        let quick = [("LTO", "off"), ("OPT_LEVEL", "1"), ("CODEGEN_UNITS", "16"), ("DEBUG", "0")];
        let quick = quick.map(|(name, value)| (format!("CARGO_PROFILE_RELEASE_{name}"), value));
        let mut command = cargo();
        command.args(install).args(["--no-default-features", "--features", "default-no-update", "--root"]).arg(&own);
        run(command.envs(quick).env_remove("CARGO_TARGET_DIR"))?;
    }
    Ok(binary)
}

/// Where tools of the project's own are installed, apart from the user's.
fn tools() -> Result<PathBuf, Failed> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let missing = "neither XDG_CACHE_HOME nor HOME is set: there is nowhere to install cargo-nextest";
    Ok(cache.ok_or_else(|| Failed::Because(missing.to_owned()))?.join("greenroom").join("tools"))
}

/// Where Cargo puts the binaries: beside this one.
fn binaries() -> Result<PathBuf, Failed> {
    let own = std::env::current_exe().map_err(|error| Failed::Because(format!("failed to find xtask: {error}")))?;
    Ok(own.parent().map(Path::to_owned).unwrap_or_default())
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn run(command: &mut Command) -> Result<(), Failed> {
    let status = command.status().map_err(|error| cannot_run(command, &error))?;
    if status.success() {
        return Ok(());
    }
    Err(Failed::With(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn cannot_run(command: &Command, error: &std::io::Error) -> Failed {
    Failed::Because(format!("failed to run {}: {error}", command.get_program().to_string_lossy()))
}

#[expect(clippy::print_stderr, reason = "the commands speak to a person")]
fn say(text: &str) {
    eprintln!("{text}");
}
