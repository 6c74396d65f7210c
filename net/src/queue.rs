//! Outgoing frames of one connection: a bounded queue, written gathered.
//!
//! ```text
//! push: small frames ──► copied together  ┐
//!       large frames ──► header, body ref ┘──► one vectored write per batch
//! ```
//!
//! Whoever sends only puts a frame here. The queue is bounded in bytes: a frame that finds it full
//! is refused, and the caller decides whether that is a lost message (peers) or the end of the
//! connection (clients).

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::frame::Sealed;

/// Bodies up to this are copied next to their neighbours; longer ones are written from where they
/// are.
const COPIED_BODY_BYTES_MAX: usize = 2048;
/// Slices in one write. Far below Linux's limit of 1,024.
const SLICES_MAX: usize = 64;

/// Bytes that wait to be written on any number of connections together. Clones are the same gauge.
#[derive(Clone, Debug, Default)]
pub struct Queued(Arc<AtomicUsize>);

impl Queued {
    /// Bytes that wait now.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Frames not yet handed to the kernel.
#[derive(Debug)]
pub(crate) struct WriteQueue {
    /// Complete chunks, oldest first; none is empty.
    chunks: VecDeque<Bytes>,
    /// What follows them.
    tail: BytesMut,
    /// Bytes in `chunks` and `tail`.
    bytes: usize,
    bytes_max: usize,
    /// Counts `bytes`, too.
    queued: Queued,
}

impl WriteQueue {
    pub(crate) fn new(bytes_max: usize, queued: Queued) -> WriteQueue {
        WriteQueue {
            chunks: VecDeque::new(),
            tail: BytesMut::new(),
            bytes: 0,
            bytes_max,
            queued,
        }
    }

    /// Takes the frame, or says that it does not fit. An empty queue takes any frame, so that a
    /// bound below the frame limit blocks nothing for good.
    pub(crate) fn push(&mut self, frame: &Sealed) -> bool {
        if self.bytes > 0 && self.bytes + frame.wire_bytes() > self.bytes_max {
            return false;
        }
        self.bytes += frame.wire_bytes();
        self.queued
            .0
            .fetch_add(frame.wire_bytes(), Ordering::Relaxed);
        self.tail.put_slice(frame.header());
        if frame.body().len() <= COPIED_BODY_BYTES_MAX {
            self.tail.put_slice(frame.body());
        } else {
            self.chunks.push_back(self.tail.split().freeze());
            self.chunks.push_back(frame.body().clone());
        }
        true
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lets `write` have as much as fits in one call; what it took is gone from the queue.
    pub(crate) fn write_some(
        &mut self,
        write: impl FnOnce(&[IoSlice<'_>]) -> std::io::Result<usize>,
    ) -> std::io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        let whole = self.chunks.len() < SLICES_MAX;
        for chunk in self.chunks.iter().take(SLICES_MAX) {
            slices[count] = IoSlice::new(chunk);
            count += 1;
        }
        if whole && !self.tail.is_empty() {
            slices[count] = IoSlice::new(&self.tail);
            count += 1;
        }
        let written = write(&slices[..count])?;
        self.consume(written);
        Ok(written)
    }

    fn consume(&mut self, mut written: usize) {
        assert!(
            written <= self.bytes,
            "the kernel took {written} bytes of {}",
            self.bytes
        );
        self.bytes -= written;
        self.queued.0.fetch_sub(written, Ordering::Relaxed);
        while let Some(front) = self.chunks.front_mut() {
            if written < front.len() {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.chunks.pop_front();
        }
        self.tail.advance(written);
    }
}

impl Drop for WriteQueue {
    fn drop(&mut self) {
        self.queued.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FrameCodec;
    use proptest::prelude::*;
    use tokio_util::codec::Decoder;

    fn sealed(length: usize, fill: u8) -> Sealed {
        Sealed::new(Bytes::from(vec![fill; length])).expect("below the limit")
    }

    #[test]
    fn a_full_queue_refuses_and_an_empty_one_takes_anything() {
        let queued = Queued::default();
        let mut queue = WriteQueue::new(100, queued.clone());
        assert!(queue.push(&sealed(5000, 1)));
        assert!(!queue.push(&sealed(1, 2)));
        while queue.bytes() > 0 {
            queue
                .write_some(|slices| Ok(slices[0].len()))
                .expect("writes");
        }
        assert!(queue.push(&sealed(60, 3)));
        assert!(
            queue.push(&sealed(24, 4)),
            "68 + 32 bytes are the bound itself"
        );
        assert!(!queue.push(&sealed(0, 5)));
        assert_eq!(queued.bytes(), queue.bytes());
        drop(queue);
        assert_eq!(queued.bytes(), 0);
    }

    proptest! {
        /// Whatever the kernel takes at a time, the bytes come out whole and in order.
        #[test]
        fn partial_writes_lose_nothing(
            lengths in prop::collection::vec(prop_oneof![0usize..64, 2000usize..2100, 4000usize..9000], 1..80),
            takes in prop::collection::vec(1usize..5000, 1..50),
        ) {
            let mut queue = WriteQueue::new(usize::MAX, Queued::default());
            for (i, &length) in lengths.iter().enumerate() {
                prop_assert!(queue.push(&sealed(length, i as u8)));
            }
            let mut wire = BytesMut::new();
            let mut takes = takes.into_iter().cycle();
            while queue.bytes() > 0 {
                let mut left = takes.next().expect("cycles");
                queue.write_some(|slices| {
                    let mut taken = 0;
                    for slice in slices {
                        let part = left.min(slice.len());
                        wire.extend_from_slice(&slice[..part]);
                        left -= part;
                        taken += part;
                    }
                    Ok(taken)
                }).expect("writes");
            }
            for (i, &length) in lengths.iter().enumerate() {
                let body = FrameCodec.decode(&mut wire).expect("sound").expect("whole");
                prop_assert_eq!(body, vec![i as u8; length]);
            }
            prop_assert!(wire.is_empty());
        }
    }
}
