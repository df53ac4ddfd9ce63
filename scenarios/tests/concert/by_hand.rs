//! What a story has its programs do wrong in a line, done from a shell to an environment that `up` holds.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use fixtures::concert::{ConcertClient, Held, PRICE};
use fixtures::payment::PaymentApi;
use fixtures::{CallError, Refusal as _};
use greenroom::binaries::{self, GREENROOM};
use greenroom::environment::Calls;
use greenroom::parent_death::end_with_parent;
use greenroom::scenario::{Failure, Verdict, eventually};
use serde_json::{Value, json};

use crate::judged::is_about_others;
use crate::sales::POINTS;

/// How long `up` may take for its next step: it may have a variant of a program to build.
const DEADLINE: Duration = Duration::from_mins(5);

/// `test-env` with these words.
fn test_env(words: &[&str]) -> Result<Command, Failure> {
    let mut command = Command::new(binaries::built()?.join(GREENROOM));
    command.arg("test-env").args(words);
    Ok(command)
}

/// Whether `test-env` does this, and what it says.
fn said(words: &[&str]) -> Result<(bool, String), Failure> {
    let said = test_env(words)?.output()?;
    Ok((said.status.success(), String::from_utf8(said.stderr)?))
}

/// `test-env` does not do this, and says why.
fn refused(words: &[&str], told: &str) -> Verdict {
    let (is_done, said) = said(words)?;
    assert!(!is_done && said.contains(told), "{words:?}: {said}");
    Ok(())
}

/// An environment that `up` holds, which ends with it.
struct Up {
    holder: Child,
    told: Receiver<String>,
    environment: String,
    variables: BTreeMap<String, String>,
}

impl Up {
    fn begin(words: &[&str], directory: &Path) -> Result<Self, Failure> {
        let file = directory.join("own.env");
        let mut up = test_env(words)?;
        end_with_parent(up.arg("--env-file").arg(&file).stderr(Stdio::piped()));
        let mut holder = up.spawn()?;
        let said = holder.stderr.take().ok_or_else(|| Failure::new("it says nothing"))?;
        let (tell, told) = mpsc::channel();
        thread::spawn(move || BufReader::new(said).lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let mut up = Self { holder, told, environment: String::new(), variables: BTreeMap::new() };
        let planned = up.says(|line| line.starts_with("starting "))?;
        up.environment = planned.split(' ').nth(1).unwrap_or_default().to_owned();
        up.says(|line| line.starts_with("ready in "))?;
        let written = std::fs::read_to_string(&file)?;
        let pairs = written.lines().filter_map(|line| line.split_once('='));
        up.variables = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(up)
    }

    /// The next line that it says of which this is true.
    fn says(&self, is_meant: impl Fn(&str) -> bool) -> Result<String, Failure> {
        let (deadline, mut before) = (Instant::now() + DEADLINE, String::new());
        loop {
            match self.told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if is_meant(&line) => return Ok(line),
                Ok(line) => before = before + &line + "\n",
                Err(nothing) => {
                    return Err(Failure::new(format!("`up` does not say it: {nothing}; it said\n{before}")));
                }
            }
        }
    }

    fn variable(&self, name: &str) -> Result<&str, Failure> {
        self.variables.get(name).map(String::as_str).ok_or_else(|| Failure::new(format!("no {name} in its variables")))
    }

    /// The words of a `fault` in this environment.
    fn fault<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        [&["fault", "--environment", &self.environment], words].concat()
    }

    fn done(&self, words: &[&str]) -> Verdict {
        match said(&self.fault(words))? {
            (true, _) => Ok(()),
            (false, said) => Err(Failure::new(format!("{words:?} failed: {said}"))),
        }
    }

    fn refused(&self, words: &[&str], told: &str) -> Verdict {
        refused(&self.fault(words), told)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // The lease ends with it.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// What the payment API answers to a payment over HTTP: status and body.
async fn paid(payments: &PaymentApi, reservation: u32) -> Result<(u16, String), fixtures::Unanswered> {
    payments.pay(&json!({"userId": 1, "price": 5, "reservationId": reservation})).await
}

/// What a shell asks of the payment API, and each by what is answered then.
async fn payments_go_wrong(up: &Up, payments: &PaymentApi) -> Verdict {
    up.done(&["ask", "payment-api", "decline"])?;
    assert_eq!(paid(payments, 1001).await?.0, 500);
    up.done(&["ask", "payment-api", "status", "503"])?;
    assert_eq!(paid(payments, 1002).await?.0, 503);
    up.done(&["ask", "payment-api", "close-connection"])?;
    assert!(paid(payments, 1003).await.is_err(), "a connection that is closed answers nothing");
    up.done(&["ask", "payment-api", "malformed"])?;
    let (status, body) = paid(payments, 1004).await?;
    assert!(status == 200 && serde_json::from_str::<Value>(&body).is_err(), "{status}: {body}");
    up.done(&["ask", "payment-api", "delay", "300ms"])?;
    let asked = Instant::now();
    assert_eq!(paid(payments, 1005).await?.0, 200);
    assert!(asked.elapsed() >= Duration::from_millis(300), "{:?}", asked.elapsed());
    up.done(&["ask", "payment-api", "approve"])?;
    assert_eq!(paid(payments, 1006).await?.0, 200);

    up.refused(&["ask", "payment-api", "flood"], "payment-api has no fault flood")?;
    up.refused(
        &["ask", "payment-api", "flood"],
        "answer-twice, approve, close-connection, decline, delay DURATION, malformed",
    )?;
    up.refused(&["ask", "payment-api", "delay"], "fault delay takes a duration such as 200ms, and none is given")?;
    up.refused(&["ask", "payment-api", "decline", "3s"], "fault decline takes no value, and \"3s\" is given")?;
    up.refused(&["ask", "payment-api", "status", "9"], "refuses PUT /rules with 400")?;
    up.refused(&["ask", "concert", "decline"], "concert has no fault decline")?;
    up.refused(&["ask", "concert", "decline"], "what can be asked is payment-api")?;
    up.refused(&["ask", "payment-api", "delay", "500us"], "takes a duration such as 200ms, and \"500us\" is given")?;
    up.refused(&["ask", "kafka", "decline"], "there is no program kafka; the programs are payment-api, concert")
}

/// Goal: what a story has the payment API and the service do wrong, a person has them do from a shell: the payment API
/// declines, fails, is late, closes connections, answers what is no answer, and answers twice; the service dies in the
/// window that was named, once, and its successor makes good what it left.
/// Method: `up --crash-at` holds the environment, and every fault is a command of its own. The service dies behind the
/// commit of a payment; after its restart that is sent and answered twice, and uses up the token.
#[tokio::test]
async fn a_shell_does_what_a_story_does() -> Verdict {
    if is_about_others()? {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let up = Up::begin(&["up", "concert", "--crash-at", "after-commit"], directory.path())?;
    let payments = PaymentApi::new(up.variable("PAYMENT_API_URL")?, Calls::default());
    payments_go_wrong(&up, &payments).await?;

    up.done(&["ask", "payment-api", "answer-twice"])?;
    let concert = ConcertClient::new(up.variable("CONCERT_URL")?, Calls::default());
    let show = concert.put_on_show(1, PRICE).await?;
    let buyer = concert.buyer(1, POINTS).await?;
    let Held { reservation, .. } = concert.hold(&buyer, &show, 1).await?;
    let asked = concert.pay(&buyer.token, buyer.id, reservation.seat_id).await;
    assert!(matches!(asked, Err(CallError::Unanswered(_))), "{asked:?}");
    let told = up.says(|line| line.starts_with("concert has ended"))?;
    assert!(told.contains("SIGKILL"), "{told}");
    up.refused(&["pause", "concert"], "concert does not run")?;
    up.done(&["pause", "payment-api"])?;
    up.refused(&["ask", "payment-api", "decline"], "payment-api is paused")?;
    up.done(&["resume", "payment-api"])?;
    up.done(&["restart", "concert"])?;

    eventually(async || {
        let entries = payments.journal_of(reservation.id).await.map_err(|error| error.to_string())?;
        let answers: usize = entries.iter().map(|entry| entry.answers.len()).sum();
        if answers >= 2 { Ok(()) } else { Err(format!("the payment has {answers} answers")) }
    })
    .await?;
    eventually(async || match concert.check_queue(&buyer.token).await.refused() {
        Ok(used_up) if used_up.code() == (404, "WAITING_QUEUE_004") => Ok(()),
        told => Err(format!("the answer was not applied, or the token is not used up: {told:?}")),
    })
    .await?;
    assert_eq!(concert.points(buyer.id).await?, "90000");
    Ok(())
}

/// Goal: a point that does not exist is told before anything starts, with those that do.
#[test]
fn a_point_that_does_not_exist_is_told() -> Verdict {
    if is_about_others()? {
        return Ok(());
    }
    let point = "concert has no failpoint after-lunch; they are after-";
    refused(&["plan", "concert", "--crash-at", "after-lunch"], point)?;
    refused(&["plan", "coupon", "--crash-at", "after-commit"], "none of its programs has any")
}
