//! A leader's stream to one follower: what was sent, what came back, how much is in flight.

use std::collections::VecDeque;

use crate::ident::{MonoTime, Slot};
use crate::input::Condition;

/// Rounds of which the time is kept until they are answered.
const ROUNDS_MAX: usize = 128;

/// The state of one stream, for one leadership.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// The next slot to send; unknown until the follower said where it is.
    pub(crate) next: Option<Slot>,
    /// Sent and not durable there: last slot and bytes of each message. Bounded by the window.
    sent: VecDeque<(Slot, usize)>,
    in_flight_bytes: usize,
    /// The follower durably has everything up to here at this ballot, or chosen. Never falls.
    pub(crate) durable: Slot,
    pub(crate) received: Slot,
    pub(crate) applied: Slot,
    /// The last commit index sent.
    pub(crate) commit_sent: Slot,
    pub(crate) wal_age_us: u64,
    /// How long a sync takes there, as it last said.
    pub(crate) sync_us: u64,
    /// What its disks allow, as it last said; nothing if it has said nothing under this ballot.
    pub(crate) condition: Option<Condition>,
    /// When it last answered under this ballot.
    pub(crate) heard_at: MonoTime,
    /// The highest round it confirmed.
    pub(crate) round: u64,
    /// Links deliver in order: whoever answers this round has seen everything below this slot.
    mark: Option<(u64, Slot)>,
    /// The rounds on their way: number, when asked, bytes sent since the one before.
    rounds: VecDeque<(u64, MonoTime, usize)>,
    /// Bytes sent since the last round.
    sent_bytes: usize,
    /// Heartbeats in a row at which it was caught up and healthy.
    pub(crate) steady: u32,
}

impl Stream {
    pub(crate) fn new(next: Option<Slot>, now: MonoTime) -> Stream {
        Stream {
            next,
            sent: VecDeque::new(),
            in_flight_bytes: 0,
            durable: Slot::NONE,
            received: Slot::NONE,
            applied: Slot::NONE,
            commit_sent: Slot::NONE,
            wal_age_us: 0,
            sync_us: 0,
            condition: None,
            heard_at: now,
            round: 0,
            mark: None,
            rounds: VecDeque::new(),
            sent_bytes: 0,
            steady: 0,
        }
    }

    /// How many bytes may still be sent.
    pub(crate) fn room_bytes(&self, window_bytes: usize) -> usize {
        window_bytes.saturating_sub(self.in_flight_bytes)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.sent.is_empty()
    }

    /// Everything up to `last` is on its way.
    pub(crate) fn on_sent(&mut self, last: Slot, bytes: usize, commit: Slot) {
        self.sent.push_back((last, bytes));
        self.in_flight_bytes += bytes;
        self.sent_bytes += bytes;
        self.next = Some(last.next());
        self.commit_sent = self.commit_sent.max(commit);
    }

    /// The follower has everything up to `durable` on disk and up to `received` in memory.
    pub(crate) fn on_progress(&mut self, durable: Slot, received: Slot) {
        self.durable = self.durable.max(durable);
        self.received = self.received.max(received);
        while self
            .sent
            .front()
            .is_some_and(|(last, _)| *last <= self.durable)
        {
            let (_, bytes) = self.sent.pop_front().expect("just seen");
            self.in_flight_bytes -= bytes;
        }
        if self.next.is_some_and(|next| next <= received) {
            self.next = Some(received.next());
        }
    }

    /// Sends again from `next`; what was in flight is given up for lost.
    pub(crate) fn rewind(&mut self, next: Slot) {
        self.sent.clear();
        self.in_flight_bytes = 0;
        self.next = Some(next);
    }

    /// The link is new or gone: where the follower is must be learnt again.
    pub(crate) fn forget_position(&mut self) {
        self.rewind(Slot::NONE);
        self.next = None;
        self.mark = None;
        self.rounds.clear();
        self.sent_bytes = 0;
        self.steady = 0;
    }

    /// A heartbeat of this round follows everything sent so far.
    pub(crate) fn mark_round(&mut self, round: u64, now: MonoTime) {
        self.mark = self.next.map(|next| (round, next));
        if self.rounds.len() == ROUNDS_MAX {
            self.rounds.pop_front();
        }
        let bytes = std::mem::take(&mut self.sent_bytes);
        self.rounds.push_back((round, now, bytes));
    }

    /// A round was answered: gives how many bytes went ahead of it and how long all that took, which
    /// on a link in order is how long the bytes were on their way.
    pub(crate) fn round_took(&mut self, round: u64, now: MonoTime) -> Option<(usize, u64)> {
        while let Some((asked, at, bytes)) = self.rounds.pop_front() {
            if asked == round {
                return Some((bytes, now.since(at)));
            }
            if asked > round {
                self.rounds.push_front((asked, at, bytes));
                return None;
            }
        }
        None
    }

    /// A heartbeat of `round` was answered by a follower that received up to `received`: gives the
    /// slot to send again from, if something was lost or the position was unknown.
    pub(crate) fn lost_after(&self, round: u64, received: Slot) -> Option<Slot> {
        match (self.next, self.mark) {
            (None, _) => Some(received.next()),
            (Some(_), Some((marked, next))) if round >= marked && received.next() < next => {
                Some(received.next())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_opens_as_the_disk_over_there_catches_up() {
        let mut stream = Stream::new(Some(Slot(1)), MonoTime(0));
        stream.on_sent(Slot(2), 60, Slot(0));
        stream.on_sent(Slot(3), 60, Slot(1));
        assert_eq!((stream.room_bytes(100), stream.next), (0, Some(Slot(4))));
        stream.on_progress(Slot(0), Slot(3));
        assert_eq!(stream.room_bytes(100), 0, "received is not durable");
        stream.on_progress(Slot(2), Slot(3));
        assert_eq!(stream.room_bytes(100), 40);
        stream.on_progress(Slot(1), Slot(1));
        assert_eq!(
            (stream.durable, stream.received),
            (Slot(2), Slot(3)),
            "late acks change nothing"
        );
        stream.on_progress(Slot(9), Slot(9));
        assert_eq!(
            (stream.next, stream.is_idle()),
            (Some(Slot(10)), true),
            "fetched elsewhere"
        );
    }

    #[test]
    fn an_answered_round_shows_what_was_lost() {
        let mut stream = Stream::new(None, MonoTime(0));
        assert_eq!(
            stream.lost_after(1, Slot(4)),
            Some(Slot(5)),
            "position unknown"
        );
        stream.rewind(Slot(5));
        stream.on_sent(Slot(6), 10, Slot(0));
        stream.mark_round(2, MonoTime(10));
        assert_eq!(stream.round_took(2, MonoTime(15)), Some((10, 5)));
        assert_eq!(stream.round_took(2, MonoTime(15)), None, "only once");
        stream.on_sent(Slot(7), 10, Slot(0));
        assert_eq!(
            stream.lost_after(1, Slot(4)),
            None,
            "an answer to an older round"
        );
        assert_eq!(stream.lost_after(2, Slot(6)), None, "7 went after the mark");
        assert_eq!(stream.lost_after(2, Slot(5)), Some(Slot(6)));
        stream.forget_position();
        assert_eq!((stream.next, stream.room_bytes(10)), (None, 10));
    }
}
