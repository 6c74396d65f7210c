//! Filling the streams: pieces of the log to each follower, within its window.
//!
//! Followers that are at the same place get the same message, encoded once. The commit index
//! travels with the next piece; a follower to which nothing is on its way is told at once.

use crate::core::{Core, Part};
use crate::ident::{NodeId, Slot};
use crate::leadership::Leadership;
use crate::log::Log;
use crate::message::{Accept, Message};
use crate::outbox::Outbox;
use crate::stream::Stream;

/// One piece of the log, and who gets it.
#[derive(Debug)]
struct Piece {
    from: Slot,
    to: Slot,
    bytes: usize,
    peers: Vec<NodeId>,
}

impl Core {
    /// Sends whatever the windows allow; asks the disk for what is no longer in memory.
    pub(crate) fn flush_streams(&mut self, out: &mut Outbox) {
        loop {
            let pieces = self.next_pieces();
            if pieces.is_empty() {
                break;
            }
            for piece in pieces {
                self.send_piece(piece, out);
            }
        }
        for (peer, next) in self.peers_below_memory() {
            self.load_for(peer, next, out);
        }
    }

    /// Tells the commit index to followers to which nothing else is on its way, so that they need
    /// not wait for the next command to apply the last one.
    pub(crate) fn tell_commit(&mut self, out: &mut Outbox) {
        let (commit, prev) = (self.log.chosen(), self.log.last());
        let Core {
            part: Part::Leader(leadership),
            peers,
            ..
        } = self
        else {
            return;
        };
        let mut to = Vec::new();
        for (&node, stream) in &mut leadership.streams {
            let up = peers.get(&node).is_some_and(|peer| peer.link.is_some());
            let waits = stream.is_idle() && stream.next == Some(prev.next());
            if up && waits && stream.commit_sent < commit {
                stream.commit_sent = commit;
                to.push(node);
            }
        }
        let (ballot, round) = (leadership.ballot, leadership.round);
        let accept = Accept {
            ballot,
            prev,
            entries: Vec::new(),
            commit,
            round,
        };
        out.broadcast(to, Message::Accept(accept));
    }

    fn next_pieces(&self) -> Vec<Piece> {
        let Part::Leader(leadership) = &self.part else {
            return Vec::new();
        };
        let mut pieces: Vec<Piece> = Vec::new();
        for (from, room, node) in self.ready_streams(leadership) {
            let (to, bytes) = measure(&self.log, from, room);
            match pieces
                .iter_mut()
                .find(|piece| piece.from == from && piece.to == to)
            {
                Some(piece) => piece.peers.push(node),
                None => pieces.push(Piece {
                    from,
                    to,
                    bytes,
                    peers: vec![node],
                }),
            }
        }
        pieces
    }

    /// Connected followers that lack something in memory and have room for it.
    fn ready_streams<'a>(
        &'a self,
        leadership: &'a Leadership,
    ) -> impl Iterator<Item = (Slot, usize, NodeId)> + 'a {
        let window = self.config.peer_window_bytes;
        let ready = move |(&node, stream): (&NodeId, &Stream)| {
            let next = stream.next.filter(|_| self.is_up(node))?;
            let in_memory = next >= self.log.start() && next <= self.log.last();
            let pace = self.peers.get(&node)?.pace;
            let room = stream.room_bytes(window.min(pace.window_bytes()));
            (in_memory && room > 0).then_some((next, room.min(pace.piece_bytes()), node))
        };
        leadership.streams.iter().filter_map(ready)
    }

    fn send_piece(&mut self, piece: Piece, out: &mut Outbox) {
        let count = usize::try_from(piece.to.0 - piece.from.0).expect("slots in memory fit") + 1;
        let items = self.log.from(piece.from).take(count);
        let entries = items.map(|(_, item)| item.entry.clone()).collect();
        let commit = self.log.chosen();
        let Part::Leader(leadership) = &mut self.part else {
            return;
        };
        for node in &piece.peers {
            if let Some(stream) = leadership.streams.get_mut(node) {
                stream.on_sent(piece.to, piece.bytes, commit);
            }
        }
        let (ballot, round) = (leadership.ballot, leadership.round);
        let prev = piece.from.prev();
        out.broadcast(
            piece.peers,
            Message::Accept(Accept {
                ballot,
                prev,
                entries,
                commit,
                round,
            }),
        );
    }

    fn peers_below_memory(&self) -> Vec<(NodeId, Slot)> {
        let Part::Leader(leadership) = &self.part else {
            return Vec::new();
        };
        let below = |(&node, stream): (&NodeId, &Stream)| {
            let next = stream.next.filter(|next| *next < self.log.start())?;
            self.is_up(node).then_some((node, next))
        };
        leadership.streams.iter().filter_map(below).collect()
    }
}

/// The last slot of a piece that begins at `from` and stops at `bytes_max` or one entry, and its
/// bytes.
fn measure(log: &Log, from: Slot, bytes_max: usize) -> (Slot, usize) {
    let (mut to, mut bytes) = (from, 0);
    for (slot, item) in log.from(from) {
        let more = bytes + item.entry.size_bytes();
        if slot > from && more > bytes_max {
            break;
        }
        (to, bytes) = (slot, more);
    }
    (to, bytes)
}
