//! Any bytes as messages of two peers and ticks between: the core never panics.
//!
//! Each step is a byte that says who (0: time passes), two bytes of length, and a message.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use paxos::{
    ClusterId, Config, Core, DiskId, Identity, Input, Life, Member, Membership, Message, MonoTime,
    NodeId, Outbox, PeerHello, Recovered, Slot, WalSeq,
};

fuzz_target!(|bytes: &[u8]| {
    let disk = |node: u16| DiskId(u64::from(node));
    let members = (1..=3).map(|n| Member { node: NodeId(n), disk: disk(n) }).collect();
    let identity = Identity { cluster: ClusterId(1), node: NodeId(1), disk: disk(1) };
    let config = Config::new(identity, Membership { epoch: 1, members });
    let recovered = Recovered { first: Slot(1), ..Recovered::default() };
    let mut now = MonoTime(1);
    let mut core = Core::new(config, recovered, now);
    let mut out = Outbox::default();
    for n in 2..=3 {
        let hello =
            PeerHello { node: NodeId(n), disk: disk(n), life: Life { incarnation: 1, start: 1 }, witness: Vec::new() };
        core.step(now, Input::PeerUp { peer: NodeId(n), link: 1, hello }, &mut out);
    }
    let mut rest = bytes;
    while let [who, low, high, tail @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
        let (message, tail) = tail.split_at(length);
        rest = tail;
        if *who == 0 {
            now = now.max(core.next_wake());
            core.step(now, Input::Tick, &mut out);
        } else if let Ok(message) = Message::decode(Bytes::copy_from_slice(message)) {
            let from = NodeId(2 + u16::from(who % 2));
            core.step(now, Input::Recv { from, link: 1, message }, &mut out);
        }
        if let Some(last) = out.wal.last() {
            let seq: WalSeq = last.seq;
            out.clear();
            core.step(now, Input::WalDurable { seq }, &mut out);
        }
    }
});
