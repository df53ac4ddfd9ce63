//! `cargo xtask test --service`: what these very stories say of somebody else's service.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use greenroom::binaries::{self, BINARIES_VARIABLE, GREENROOM};
use greenroom::parent_death::end_with_parent;
use greenroom::scenario::{Failure, Verdict};
use greenroom::service::Service;
use greenroom::verdict::{Judgement, Ruling};

/// Stories of which one holds, one is broken and two cannot be asked.
const STORIES: [&str; 4] = [
    "payments::approved_payment",
    "defects::money::a_refund_adds_numbers",
    "defects::retries::attempts_have_a_limit",
    "crashes::after_the_commit",
];

/// Whether this run is about somebody else's service: a story about our own programs is listed then, and says nothing.
pub(crate) fn is_about_others() -> Result<bool, Failure> {
    is_skipped_for_others("it is about our own programs")
}

/// Whether this run is about somebody else's service, which a story cannot ask for this reason: it is listed then.
pub(crate) fn is_skipped_for_others(reason: &str) -> Result<bool, Failure> {
    let is_about_others = Service::of_this_run()?.is_some();
    if is_about_others {
        Judgement::of_this_test(Ruling::Skipped, reason).write()?;
    }
    Ok(is_about_others)
}

/// What is said of a service that is named by these arguments, by these stories; files go to `target`.
///
/// A script stands for cargo-nextest and runs them.
fn judged(service: &[&str], stories: &[&str], target: &Path) -> Result<Judged, Failure> {
    let binaries = binaries::built()?;
    let nextest = target.join("nextest");
    let stories = format!("{} --exact --test-threads 1 {}", std::env::current_exe()?.display(), stories.join(" "));
    let arguments = target.join("arguments");
    std::fs::write(
        &nextest,
        format!("#!/bin/sh\necho \"$@ $NEXTEST_TEST_THREADS at once\" > '{}'\nexec {stories}\n", arguments.display()),
    )?;
    std::fs::set_permissions(&nextest, PermissionsExt::from_mode(0o755))?;
    let mut judge = Command::new(binaries.join(GREENROOM));
    judge.arg("judge").arg("--nextest").arg(nextest).args(service).env(BINARIES_VARIABLE, &binaries);
    judge.env("CARGO_TARGET_DIR", target).env_remove("NEXTEST_TEST_THREADS");
    let judged = judge.output()?;
    Ok(Judged {
        holds: judged.status.success(),
        table: String::from_utf8(judged.stdout)?,
        said: String::from_utf8(judged.stderr)?,
        asked: std::fs::read_to_string(arguments).unwrap_or_default(),
    })
}

/// What these stories say of our service with a defect planted, which plays somebody else's.
fn judged_with(defect: &str, stories: &[&str]) -> Result<Judged, Failure> {
    let binaries = binaries::built()?;
    binaries::build_variant("concert-service/broken", "concert-service-broken", false)?;
    let service = format!("PLANTED_DEFECT={defect} exec {}/concert-service-broken", binaries.display());
    judged(&["--service", &service], stories, tempfile::tempdir()?.path())
}

/// What came of a run.
struct Judged {
    holds: bool,
    table: String,
    said: String,
    /// The arguments of cargo-nextest, and how many tests it runs at once.
    asked: String,
}

impl Judged {
    /// Demands that the run failed and that its table has these words.
    fn fails_with(&self, words: &[&str]) {
        let Self { holds, table, said, .. } = self;
        assert!(!holds, "a broken law is no success: {table}\n{said}");
        for word in words {
            assert!(table.contains(word), "the table lacks {word:?}: {table}\n{said}");
        }
    }
}

/// Goal: a service that breaks a law is told which; what it keeps holds, what it cannot be asked is listed, in part too,
/// and the run fails.
/// Method: our service with the refund of the original in it plays somebody else's, started by a shell.
#[test]
fn a_defect_of_somebody_elses_service_is_told() -> Verdict {
    if is_about_others()? {
        return Ok(());
    }
    let stories = [&STORIES[..], &["queue::first_come_first_served"]].concat();
    judged_with("refund-as-text", &stories)?.fails_with(&[
        "| defects: money: a refund adds numbers",
        "| BROKEN ",
        "user 1 has 9000010000 and 90000 points",
        "| defects: retries: attempts have a limit",
        "the contract has no OUTBOX_ATTEMPTS_MAX",
        "| payments: approved payment",
        "| crashes: after the commit",
        "the story is about a defect or a crash point that only our own program has",
        "not asked: who is let in when a place is given back",
        "2 hold, 1 broken, 2 skipped because the service cannot be asked",
    ]);
    Ok(())
}

/// Goal: a mark that overwrites an answer is found in somebody else's service too, in which the story knows of no place
/// where the two meet. Method: as above, with that defect.
#[test]
fn a_late_mark_of_somebody_elses_service_is_told() -> Verdict {
    if is_about_others()? {
        return Ok(());
    }
    let judged = judged_with("late-published", &["defects::outbox::a_late_mark_overwrites_no_success"])?;
    judged.fails_with(&["| BROKEN ", "outbox row 1 went from SUCCESS", "0 hold, 1 broken"]);
    Ok(())
}

/// Goal: a service that starts and lacks a route of its contract breaks the stories that need it, and the route is
/// named. Method: a server in Perl, which every Debian has, makes the table of the contract that is observed, lists no
/// concert, and knows no other route.
#[test]
fn a_route_that_somebody_elses_service_lacks_is_told() -> Verdict {
    if is_about_others()? {
        return Ok(());
    }
    let server = r#"
        use IO::Socket::INET;
        my $database = IO::Socket::INET->new("$ENV{DB_HOST}:$ENV{DB_PORT}") or die $!;
        my $hello = pack "N", 196608;
        $hello .= "user\0$ENV{DB_USERNAME}\0database\0$ENV{DB_NAME}\0\0";
        my $table = "CREATE TABLE payment_outbox (id serial, metadata jsonb, status text, \"createdAt\" timestamp)\0";
        syswrite $database, pack("N", 4 + length $hello) . $hello . "Q" . pack("N", 4 + length $table) . $table;
        my $said = "";
        sysread $database, $said, 4096, length $said or die $said until $said =~ /CREATE TABLE/;
        my $server = IO::Socket::INET->new(LocalAddr => $ARGV[0], LocalPort => $ARGV[1], Listen => 9, ReuseAddr => 1) or die $!;
        while (my $client = $server->accept) {
            my $asked = <$client>;
            my $length = 0;
            while (<$client> =~ /^(?:content-length: (\d+)|\S.*)/i) { $length = $1 if $1 }
            read $client, my $body, $length;
            my ($status, $text) = $asked =~ m{^GET /concert } ? ("200 OK", "[]") : ("404 Not Found", "no such route");
            print $client "HTTP/1.1 $status\r\nContent-Length: ", length $text, "\r\nConnection: close\r\n\r\n$text";
        }"#;
    // A command is a template, in which a brace is written twice.
    let server = server.replace('{', "{{").replace('}', "}}");
    let service = format!("exec perl -e '{server}' {{bind}} {{port}}");
    let target = tempfile::tempdir()?;
    let judged = judged(&["--service", &service], &["payments::approved_payment"], target.path())?;
    judged.fails_with(&[
        "| BROKEN ",
        "POST /concert/create was answered against the contract",
        "got status 404 with \"no such route\"",
        "0 hold, 1 broken",
    ]);
    Ok(())
}

/// Somebody who starts a program anew whenever a file of variables changes.
struct Person {
    goes: Arc<AtomicBool>,
    works: Option<JoinHandle<()>>,
}

impl Person {
    fn watches(file: PathBuf, program: PathBuf) -> Self {
        let goes = Arc::<AtomicBool>::default();
        let gone = Arc::clone(&goes);
        let works = thread::spawn(move || {
            let mut last = (String::new(), None);
            while !gone.load(Ordering::Acquire) {
                let text = std::fs::read_to_string(&file).unwrap_or_default();
                if text != last.0 {
                    last.1.as_mut().map(end);
                    let variables = text.lines().filter_map(|line| line.split_once('='));
                    let mut service = Command::new(&program);
                    end_with_parent(service.envs(variables));
                    last = (text.clone(), Some(service.spawn().expect("the service runs")));
                }
                thread::park_timeout(Duration::from_millis(50));
            }
            last.1.as_mut().map(end);
        });
        Self { goes, works: Some(works) }
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.goes.store(true, Ordering::Release);
        let _ = self.works.take().map(JoinHandle::join);
    }
}

fn end(service: &mut Child) {
    let _ = service.kill();
    let _ = service.wait();
}

/// Goal: a service that somebody starts by hand is judged by what it does in each story's own environment; what it
/// cannot be asked is listed.
/// Method: a thread starts ours anew, a moment after the variables of the next environment are there. Until then the
/// one of the environment before listens at the address, and would break every law.
#[test]
fn a_service_that_is_started_by_hand_is_judged() -> Verdict {
    if is_about_others()? {
        return Ok(());
    }
    let target = tempfile::tempdir()?;
    let [high, low] = [std::process::id() >> 8 & 0xff, std::process::id() & 0xff];
    let at = format!("127.240.{high}.{low}:3999");
    let program = binaries::built()?.join("concert-service");
    let person = Person::watches(target.path().join("greenroom/service/variables.env"), program);
    let Judged { holds, table, said, .. } = judged(&["--service-address", &at], &STORIES, target.path())?;
    drop(person);
    assert!(holds, "no law was broken: {table}\n{said}");
    assert!(table.contains("2 hold, 0 broken, 2 skipped"), "{table}\n{said}");
    assert!(said.contains(&format!("each story waits for your service at {at}")), "{said}");
    Ok(())
}

/// Goal: a service whose port is fixed is judged at that port, and stories that need two of it are listed.
/// Method: a shell gives ours a port of its own choice.
#[test]
fn a_service_with_a_fixed_port_is_judged() -> Verdict {
    if is_about_others()? {
        return Ok(());
    }
    let service = format!("PORT=3998 exec {}/concert-service", binaries::built()?.display());
    let target = tempfile::tempdir()?;
    let stories = ["payments::approved_payment", "payments::two_instances"];
    let Judged { holds, table, said, .. } =
        judged(&["--service", &service, "--service-port", "3998"], &stories, target.path())?;
    assert!(holds, "no law was broken: {table}\n{said}");
    assert!(table.contains("its port is fixed, so it cannot run twice"), "{table}\n{said}");
    assert!(table.contains("1 hold, 0 broken, 1 skipped"), "{table}\n{said}");
    Ok(())
}

/// Goal: of a service that listens at every address of the machine, two never run at once.
/// Method: ours, which Perl gives a socket that does, at a port that is in nobody's way; also where the caller says so.
#[test]
fn a_service_that_is_heard_everywhere_is_judged_one_story_after_the_other() -> Verdict {
    if is_about_others()? {
        return Ok(());
    }
    let program = binaries::built()?.join("concert-service");
    let target = tempfile::tempdir()?;
    let listens =
        r#"$^F = 99; my $s = IO::Socket::INET->new(LocalAddr => $ARGV[0], Listen => 1) or die $!; exec $ARGV[1]"#;
    for (host, one_by_one) in [("0.0.0.0", true), ("127.0.0.1", false)] {
        let service = format!("exec perl -MIO::Socket::INET -e '{listens}' {host} {}", program.display());
        let arguments = ["--service", &service, "-j", "1", "--no-fail-fast"];
        let Judged { holds, table, said, asked } = judged(&arguments, &["payments::approved_payment"], target.path())?;
        assert!(holds, "no law was broken: {table}\n{said}");
        assert_eq!(said.contains("the service listens at every address of this machine"), one_by_one, "{said}");
        assert_eq!(asked.contains(" 1 at once"), one_by_one, "{asked}");
        let times = ["-j", "--test-threads", "--no-fail-fast"].map(|name| asked.matches(name).count());
        assert_eq!(times, [1, 0, 1], "nextest takes an argument once: {asked}");
    }
    Ok(())
}
