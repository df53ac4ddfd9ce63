//! `test-env fault`: what a person breaks from a shell, in an environment that somebody else holds.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use greenroom::environment::chosen_runtime;
use greenroom::plan::Runtime;

use crate::commands::{description, greenroom, said};
use crate::stand::{DEADLINE, Stand};

/// Long enough to see that nothing is answered.
const SILENCE: Duration = Duration::from_millis(300);

const LINKED: &str = "name = \"stand\"\nlinks = \"clients\"\n[redis]\n\
                      [variables]\nREDIS = \"{redis.host}:{redis.port}\"\n";

/// An environment that `up --detach` has started, and where its cache is reached.
struct Detached {
    stand: Stand,
    redis: String,
}

impl Detached {
    fn up() -> Self {
        let stand = Stand::new();
        let (path, file) = (description(&stand, LINKED), stand.path().join("own.env"));
        let file_name = file.display().to_string();
        let up = ["test-env", "up", "--detach", "--env-file", &file_name, "--description", &path];
        let started = greenroom(&stand, &up, &[]);
        assert!(started.status.success(), "{}", said(&started));
        let text = std::fs::read_to_string(&file).expect("a file of variables");
        let redis = text.lines().find_map(|line| line.strip_prefix("REDIS=")).expect("where the cache is").to_owned();
        Self { stand, redis }
    }

    /// Runs `test-env` with these words; its exit code and what it said.
    fn test_env(&self, words: &str) -> (Option<i32>, String) {
        let words: Vec<_> = ["test-env"].into_iter().chain(words.split(' ')).collect();
        let output = greenroom(&self.stand, &words, &[]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &said(&output))
    }

    /// The fault is made, and this is said of it.
    fn done(&self, fault: &str, told: &str) {
        self.fault(fault, 0, told);
    }

    /// The fault is refused, and this is said of it.
    fn refused(&self, fault: &str, told: &str) {
        self.fault(fault, 1, told);
    }

    fn fault(&self, fault: &str, expected: i32, told: &str) {
        let (code, said) = self.test_env(&format!("fault {fault}"));
        assert!(code == Some(expected) && said.contains(told), "fault {fault}: {code:?}, {said}");
    }

    /// `status` shows this fault, which is in force.
    fn shows(&self, fault: &str) {
        let (code, said) = self.test_env("status");
        let is_shown = said.lines().any(|line| line == format!(" fault, {fault}"));
        assert!(code == Some(0) && is_shown, "no {fault}: {code:?}, {said}");
    }

    /// What the cache answers to PING over a new connection, and how it does not.
    fn ping(&self, patience: Duration) -> Result<String, ErrorKind> {
        let told = || -> io::Result<String> {
            let mut connection = TcpStream::connect(&self.redis)?;
            connection.set_read_timeout(Some(patience))?;
            connection.write_all(b"PING\r\n")?;
            let mut answer = [0; 5];
            connection.read_exact(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        told().map_err(|error| error.kind())
    }

    fn answers(&self) {
        assert_eq!(self.ping(DEADLINE).as_deref(), Ok("+PONG"));
    }

    /// Its link resets; the engine, which shows a container's port, may take the connection first and close it.
    fn is_down(&self) {
        let pong = self.ping(DEADLINE);
        let contained = chosen_runtime().expect("a runtime") == Runtime::Docker;
        let closed = contained && pong == Err(ErrorKind::UnexpectedEof);
        assert!(closed || pong == Err(ErrorKind::ConnectionReset), "{pong:?}");
    }
}

/// Goal: from a shell the ways to a part of a running environment are cut, silenced, slowed and healed, for the client
/// that is named; whoever asks for what cannot be is told what could.
/// Method: this test is a client of the cache that is no part of the environment; it sends PING after each command.
#[test]
fn a_way_is_broken_and_healed_from_a_shell() {
    let environment = Detached::up();
    environment.answers();
    environment.done("cut outside redis", "the way from outside to redis is cut; `fault heal outside redis` takes");
    assert_eq!(environment.ping(DEADLINE), Err(ErrorKind::ConnectionReset));
    environment.done("heal outside redis", "the way from outside to redis is whole again");
    environment.answers();
    environment.refused("heal outside redis", "the link from outside to redis has no fault to take back");

    environment.done("blackhole everyone redis", "from everyone to redis lets nothing through in both directions");
    assert_eq!(environment.ping(SILENCE), Err(ErrorKind::WouldBlock));
    environment.done("heal everyone redis", "the way from everyone to redis is whole again");

    environment.done("delay everyone redis 400ms --only answers", "takes 400 ms longer for the answers");
    let begun = Instant::now();
    environment.answers();
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    environment.shows("everyone to redis: answers 400 ms later");
    environment.done("throttle outside redis 64KiB --only requests", "carries 65536 bytes a second for what the");
    environment.shows("outside to redis: requests 65536 B/s");

    environment.refused("cut till redis", "there is no client till; clients are redis, outside, everyone");
    environment.refused("cut outside till", "there is no link to till; links stand in front of redis");
}

/// Goal: from a shell a part of a running environment is paused, killed and started again; what does not run and what
/// does not exist is told. Then nothing is left.
#[test]
fn a_part_is_killed_and_restarted_from_a_shell() {
    let environment = Detached::up();
    environment.done("pause redis", "redis stands still; `resume` lets it go on");
    assert_eq!(environment.ping(SILENCE), Err(ErrorKind::WouldBlock));
    environment.done("resume redis", "redis goes on");
    environment.answers();

    environment.done("kill redis", "redis is killed");
    environment.is_down();
    environment.refused("pause redis", "redis does not run");
    environment.done("restart redis", "redis is ready again");
    environment.answers();
    environment.done("stop redis", "redis is asked to end");
    let begun = Instant::now();
    while environment.ping(DEADLINE).is_ok() {
        assert!(begun.elapsed() < DEADLINE, "it was asked to end and goes on");
    }
    environment.is_down();
    environment.done("restart redis", "redis is ready again");
    environment.answers();
    environment.refused("kill till", "no running part till; the parts are redis");
    environment.refused("restart till", "there is no part till; the parts are redis");

    let (code, said) = environment.test_env("down");
    assert!(code == Some(0) && said.contains("is gone"), "{code:?}, {said}");
    assert_eq!(environment.ping(DEADLINE), Err(ErrorKind::ConnectionRefused));
    environment.refused("kill redis", "no environment runs");
}
