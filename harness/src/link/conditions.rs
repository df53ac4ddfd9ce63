//! What a link is like: the faults that are in force, by direction.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Something that is wrong with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Open connections are reset, and so is every new one.
    Cut,
    /// Nothing goes through and nobody is told: connections stay open, new ones are accepted and stay silent. What was
    /// sent meanwhile arrives when the fault is over, as TCP's retransmissions would bring it.
    Blackhole,
    /// Every byte arrives this much later.
    Delay {
        /// How much, in milliseconds.
        ms: u64,
    },
    /// At most this much goes through, on each connection.
    Throttle {
        /// Bytes per second.
        bytes_per_s: u64,
    },
}

/// Which direction of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flow {
    /// Both.
    #[default]
    Both,
    /// From the client to the part.
    Requests,
    /// From the part to the client.
    Answers,
}

/// A fault that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// A connection is reset as a whole.
    #[error("a cut has no direction: a connection is reset as a whole; a blackhole can be one-way")]
    DirectedCut,
    /// Nothing would ever arrive.
    #[error("a throttle needs at least one byte per second; what lets nothing through is a blackhole")]
    NoBytes,
    /// Nothing would be any later.
    #[error("a delay needs at least one millisecond")]
    NoDelay,
}

/// What a client's way to a part is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    pub(super) cut: bool,
    pub(super) requests: Way,
    pub(super) answers: Way,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) blackhole: bool,
    pub(super) delay: Duration,
    pub(super) bytes_per_s: Option<u64>,
}

impl fmt::Display for Conditions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = self.cut.then(|| "cut".to_owned());
        let ways = match (self.requests, self.answers) {
            (requests, answers) if requests == answers => vec![requests.told().map(|told| format!("both ways {told}"))],
            (requests, answers) => vec![
                requests.told().map(|told| format!("requests {told}")),
                answers.told().map(|told| format!("answers {told}")),
            ],
        };
        let told: Vec<_> = cut.into_iter().chain(ways.into_iter().flatten()).collect();
        formatter.write_str(&told.join("; "))
    }
}

impl Conditions {
    /// These and one fault more. Of two delays, and of two throttles, the later one counts.
    pub(super) fn with(mut self, fault: Fault, flow: Flow) -> Result<Self, Impossible> {
        match fault {
            Fault::Cut if flow != Flow::Both => return Err(Impossible::DirectedCut),
            Fault::Throttle { bytes_per_s: 0 } => return Err(Impossible::NoBytes),
            Fault::Delay { ms: 0 } => return Err(Impossible::NoDelay),
            Fault::Cut => self.cut = true,
            Fault::Blackhole => self.each(flow, |way| way.blackhole = true),
            Fault::Delay { ms } => self.each(flow, |way| way.delay = Duration::from_millis(ms)),
            Fault::Throttle { bytes_per_s } => self.each(flow, |way| way.bytes_per_s = Some(bytes_per_s)),
        }
        Ok(self)
    }

    /// What a connection meets that both are meant for: the worse of the two in everything.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            cut: self.cut || other.cut,
            requests: self.requests.and(other.requests),
            answers: self.answers.and(other.answers),
        }
    }

    fn each(&mut self, flow: Flow, change: impl Fn(&mut Way)) {
        if flow != Flow::Answers {
            change(&mut self.requests);
        }
        if flow != Flow::Requests {
            change(&mut self.answers);
        }
    }
}

impl Way {
    /// Whether bytes go through as they come.
    pub(super) fn is_clear(self) -> bool {
        self == Self::default()
    }

    /// What is wrong with it; absent where nothing is.
    fn told(self) -> Option<String> {
        let faults = [
            self.blackhole.then(|| "lost".to_owned()),
            (!self.delay.is_zero()).then(|| format!("{} ms later", self.delay.as_millis())),
            self.bytes_per_s.map(|bytes| format!("{bytes} B/s")),
        ];
        let told: Vec<_> = faults.into_iter().flatten().collect();
        (!told.is_empty()).then(|| told.join(", "))
    }

    fn and(self, other: Self) -> Self {
        let rates = [self.bytes_per_s, other.bytes_per_s];
        Self {
            blackhole: self.blackhole || other.blackhole,
            delay: self.delay.max(other.delay),
            bytes_per_s: rates.into_iter().flatten().min(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_add_up_by_direction() {
        let slow = Conditions::default().with(Fault::Delay { ms: 200 }, Flow::Requests).expect("a delay");
        let both = slow.with(Fault::Throttle { bytes_per_s: 9 }, Flow::Both).expect("a throttle");
        assert_eq!(both.requests, Way { blackhole: false, delay: Duration::from_millis(200), bytes_per_s: Some(9) });
        assert_eq!(both.answers, Way { bytes_per_s: Some(9), ..Way::default() });
        assert!(!both.cut && !both.answers.is_clear() && slow.answers.is_clear());
    }

    #[test]
    fn a_person_is_told_by_direction() {
        let with = |conditions: Conditions, fault, flow| conditions.with(fault, flow).expect("it makes sense");
        let slow = with(Conditions::default(), Fault::Delay { ms: 200 }, Flow::Both);
        assert_eq!(slow.to_string(), "both ways 200 ms later");
        let thin = with(slow, Fault::Throttle { bytes_per_s: 9 }, Flow::Answers);
        assert_eq!(thin.to_string(), "requests 200 ms later; answers 200 ms later, 9 B/s");
        assert_eq!(with(Conditions::default(), Fault::Cut, Flow::Both).to_string(), "cut");
        assert_eq!(with(Conditions::default(), Fault::Blackhole, Flow::Requests).to_string(), "requests lost");
    }

    #[test]
    fn the_worse_of_two_counts() {
        let one = Conditions::default().with(Fault::Throttle { bytes_per_s: 9 }, Flow::Both).expect("a throttle");
        let other = Conditions::default().with(Fault::Throttle { bytes_per_s: 5 }, Flow::Answers).expect("a throttle");
        let other = other.with(Fault::Cut, Flow::Both).expect("a cut");
        let all = one.and(other);
        assert_eq!((all.cut, all.requests.bytes_per_s, all.answers.bytes_per_s), (true, Some(9), Some(5)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |fault, flow| Conditions::default().with(fault, flow).expect_err("impossible");
        assert_eq!(refused(Fault::Cut, Flow::Answers), Impossible::DirectedCut);
        assert_eq!(refused(Fault::Throttle { bytes_per_s: 0 }, Flow::Both), Impossible::NoBytes);
        assert_eq!(refused(Fault::Delay { ms: 0 }, Flow::Answers), Impossible::NoDelay);
    }
}
