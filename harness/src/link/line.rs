//! One direction of one connection: bytes in, bytes out, later or slower or not at all.
//!
//! Bytes are never lost, doubled or reordered, whatever the faults: TCP promises that to both ends.
//! Here time passes on purpose: a delay is what is asked for, not a wait for a state. A throttle is one of this
//! direction of this connection; another connection has its own.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::conditions::{Conditions, Way};

/// Read at once, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;
/// Written at once while throttled, in bytes: small, so that a slow link trickles instead of stuttering.
const PIECE_BYTES: usize = 4 * 1024;
/// Held back at most, in bytes; more stays with the sender, as with a full window.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Bytes that are on their way, in order, with the times at which they arrive.
#[derive(Debug, Default)]
struct Line {
    pieces: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// When the last piece arrives.
    last_due: Option<Instant>,
}

/// Copies until the sender ends, then passes the end on.
///
/// # Errors
/// One of the two ends broke.
pub(super) async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut conditions: watch::Receiver<Conditions>,
    of: fn(&Conditions) -> Way,
) -> io::Result<()> {
    let mut line = Line::default();
    let mut scheduled = Way::default();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut ended = false;
    loop {
        let way = of(&conditions.borrow_and_update());
        if way != scheduled {
            line.reschedule(way, Instant::now());
            scheduled = way;
        }
        if ended && line.pieces.is_empty() && !way.blackhole {
            return to.shutdown().await;
        }
        let due = line.pieces.front().map(|(due, _)| *due);
        tokio::select! {
            // A change counts for every byte that is read after it.
            biased;
            changed = conditions.changed() => if changed.is_err() {
                // Whoever changes them has gone, and the connection with it.
                return Ok(());
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() && !way.blackhole => {
                if let Some(piece) = line.pop() {
                    to.write_all(&piece).await?;
                }
            }
            read = from.read(&mut chunk), if !ended && !way.blackhole && line.bytes < LINE_BYTES_MAX => match read? {
                0 => ended = true,
                read if way.is_clear() && due.is_none() => to.write_all(&chunk[..read]).await?,
                read => line.push(&chunk[..read], way, Instant::now()),
            },
        }
    }
}

impl Line {
    fn push(&mut self, bytes: &[u8], way: Way, now: Instant) {
        let size = if way.bytes_per_s.is_some() { PIECE_BYTES } else { CHUNK_BYTES };
        for piece in bytes.chunks(size) {
            let in_turn = self.last_due.map_or(now + way.delay, |last| last.max(now + way.delay));
            let due = in_turn + time_on_the_wire(piece.len(), way);
            self.last_due = Some(due);
            self.bytes += piece.len();
            self.pieces.push_back((due, piece.to_vec()));
        }
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let (_, piece) = self.pieces.pop_front()?;
        self.bytes -= piece.len();
        if self.pieces.is_empty() {
            self.last_due = None;
        }
        Some(piece)
    }

    /// What is on its way goes on under new conditions, as if it came now.
    fn reschedule(&mut self, way: Way, now: Instant) {
        let held = std::mem::take(self);
        for (_, piece) in held.pieces {
            self.push(&piece, way, now);
        }
    }
}

fn time_on_the_wire(bytes: usize, way: Way) -> Duration {
    way.bytes_per_s.map_or(Duration::ZERO, |rate| {
        let micros = u128::try_from(bytes).unwrap_or(u128::MAX).saturating_mul(1_000_000) / u128::from(rate.max(1));
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(delay_ms: u64, bytes_per_s: Option<u64>) -> Way {
        Way { blackhole: false, delay: Duration::from_millis(delay_ms), bytes_per_s }
    }

    #[test]
    fn a_delay_moves_every_piece_by_the_same_time() {
        let (mut line, start) = (Line::default(), Instant::now());
        line.push(b"one", way(200, None), start);
        line.push(b"two", way(200, None), start + Duration::from_millis(5));
        let due: Vec<_> = line.pieces.iter().map(|(due, _)| *due - start).collect();
        assert_eq!(due, [Duration::from_millis(200), Duration::from_millis(205)]);
    }

    #[test]
    fn a_throttle_spreads_bytes_over_time() {
        let (mut line, start) = (Line::default(), Instant::now());
        line.push(&[0; 64 * 1024], way(0, Some(64 * 1024)), start);
        assert_eq!(line.pieces.len(), 16);
        assert_eq!(line.last_due.expect("a last piece") - start, Duration::from_secs(1));
    }

    #[test]
    fn healing_lets_everything_go_at_once_and_in_order() {
        let (mut line, start) = (Line::default(), Instant::now());
        line.push(b"one", way(60_000, None), start);
        line.push(b"two", way(60_000, Some(1)), start);
        line.reschedule(Way::default(), start);
        assert!(line.pieces.iter().all(|(due, _)| *due == start));
        assert_eq!(line.pop().as_deref(), Some(b"one".as_slice()));
        assert_eq!(line.pop().as_deref(), Some(b"two".as_slice()));
        assert_eq!((line.bytes, line.last_due), (0, None));
    }
}
