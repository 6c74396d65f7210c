//! What holdfast and the keeper of its command say to each other: one packet a message, over a pair of sockets.
//!
//! ```text
//! byte 0        1                 9
//!      | kind   | number: u64 LE  |
//! ```
//!
//! The pair has no name and is closed on `exec`, so nobody else can join in, and its end is the end of the process
//! at the other side, however that came about.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use client::clock::BootTime;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg,
    socketpair,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

const PACKET_BYTES: usize = 9;

/// What holdfast tells its keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The lock is held until then, by this machine's clock.
    HeldUntil(BootTime),
    /// The service has taken the lock away.
    Lost,
    /// Pass this signal on to CMD.
    PassOn(i32),
}

/// What a keeper tells its holdfast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// CMD runs, as this process and process group.
    Started(i32),
    /// A signal of the terminal stopped CMD.
    Stopped(i32),
    /// CMD was told to end, since its lock is lost or about to be.
    Warned,
    /// A process of CMD could not be signalled.
    OutOfReach(i32),
    /// CMD ended with this exit code, and so did everything that had to end with it.
    Exited(u8),
    /// The same, but this signal ended CMD.
    Killed(i32),
}

/// Something that fits into a packet.
pub(crate) trait Message: Sized {
    fn fields(self) -> (u8, u64);
    /// `None` for what the other side of this very program never says.
    fn of(kind: u8, number: u64) -> Option<Self>;
}

impl Message for Order {
    fn fields(self) -> (u8, u64) {
        match self {
            Order::HeldUntil(time) => (1, time.0),
            Order::Lost => (2, 0),
            Order::PassOn(signal) => (3, signal as u64),
        }
    }

    fn of(kind: u8, number: u64) -> Option<Self> {
        Some(match kind {
            1 => Order::HeldUntil(BootTime(number)),
            2 => Order::Lost,
            3 => Order::PassOn(i32::try_from(number).ok()?),
            _ => return None,
        })
    }
}

impl Message for Report {
    fn fields(self) -> (u8, u64) {
        match self {
            Report::Started(pid) => (1, pid as u64),
            Report::Stopped(signal) => (2, signal as u64),
            Report::Warned => (3, 0),
            Report::OutOfReach(pid) => (4, pid as u64),
            Report::Exited(code) => (5, u64::from(code)),
            Report::Killed(signal) => (6, signal as u64),
        }
    }

    fn of(kind: u8, number: u64) -> Option<Self> {
        let small = || i32::try_from(number).ok();
        Some(match kind {
            1 => Report::Started(small()?),
            2 => Report::Stopped(small()?),
            3 => Report::Warned,
            4 => Report::OutOfReach(small()?),
            5 => Report::Exited(u8::try_from(number).ok()?),
            6 => Report::Killed(small()?),
            _ => return None,
        })
    }
}

/// Both ends, not yet in a runtime.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends an open file to the other side.
pub(crate) fn send_file(end: &OwnedFd, file: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [file];
    control.push(SendAncillaryMessage::ScmRights(&files));
    sendmsg(end, &[IoSlice::new(b"f")], &mut control, SendFlags::empty())?;
    Ok(())
}

/// Receives what [`send_file`] sent. Blocks.
pub(crate) fn receive_file(end: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    recvmsg(end, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut files) = message
            && let Some(file) = files.next()
        {
            return Ok(file);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// One end in a runtime.
#[derive(Debug)]
pub(crate) struct End(UnixStream);

impl End {
    pub(crate) fn new(end: OwnedFd) -> io::Result<End> {
        // A stream in name only: what is read and written here keeps its packets.
        let end = std::os::unix::net::UnixStream::from(end);
        end.set_nonblocking(true)?;
        Ok(End(UnixStream::from_std(end)?))
    }

    /// Sends now or never. Returns whether the message left: the other side may be stopped, or gone.
    pub(crate) fn tell(&self, message: impl Message) -> bool {
        let (kind, number) = message.fields();
        let mut packet = [kind; PACKET_BYTES];
        packet[1..].copy_from_slice(&number.to_le_bytes());
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        send(&self.0, &packet, flags).is_ok()
    }

    /// What has arrived; never waits.
    pub(crate) fn hear_now<M: Message>(&self) -> Heard<M> {
        let mut packet = [0; PACKET_BYTES];
        loop {
            return match recv(&self.0, &mut packet, RecvFlags::DONTWAIT) {
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Heard::Nothing,
                Ok((_, PACKET_BYTES)) => {
                    let [kind, number @ ..] = packet;
                    // Both sides are the same program; what is no message ends the conversation.
                    M::of(kind, u64::from_le_bytes(number)).map_or(Heard::End, Heard::Message)
                }
                Ok(_) | Err(_) => Heard::End,
            };
        }
    }

    /// Resolves when there may be something to hear. Dropping the future loses nothing.
    pub(crate) async fn readable(&self) {
        // An error shows as the end when it is listened to.
        if self.0.readable().await.is_ok() {
            // Looking tells the runtime if there is nothing after all, so that the next call waits.
            _ = self.0.try_io(Interest::READABLE, || {
                let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
                Ok(recv(&self.0, &mut [0; PACKET_BYTES], flags)?)
            });
        }
    }

    /// The next message; `None` once the other side has ended. Dropping the future loses nothing.
    pub(crate) async fn hear<M: Message>(&self) -> Option<M> {
        loop {
            match self.hear_now() {
                Heard::Message(message) => return Some(message),
                Heard::End => return None,
                Heard::Nothing => self.readable().await,
            }
        }
    }
}

/// What [`End::hear_now`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard<M> {
    Message(M),
    Nothing,
    /// The other side has ended, and all that it said has been heard.
    End,
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[tokio::test]
    async fn messages_arrive_whole_and_in_order_and_then_the_end() {
        let (left, right) = pair().unwrap();
        let (left, right) = (End::new(left).unwrap(), End::new(right).unwrap());
        let orders = [
            Order::HeldUntil(BootTime(u64::MAX)),
            Order::Lost,
            Order::PassOn(15),
        ];
        for order in orders {
            assert!(left.tell(order));
        }
        for order in orders {
            assert_eq!(right.hear().await, Some(order));
        }
        let reports = [
            Report::Started(7),
            Report::Stopped(20),
            Report::Warned,
            Report::OutOfReach(8),
            Report::Exited(255),
            Report::Killed(9),
        ];
        for report in reports {
            assert!(right.tell(report));
        }
        drop(right);
        for report in reports {
            assert_eq!(left.hear().await, Some(report));
        }
        assert_eq!(left.hear::<Report>().await, None);
        assert!(!left.tell(Order::Lost));
    }

    #[test]
    fn a_file_is_handed_over() {
        use std::io::{Read, Write};
        let (left, right) = pair().unwrap();
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        send_file(&left, writer.as_fd()).unwrap();
        let mut handed = std::fs::File::from(receive_file(right.as_fd()).unwrap());
        writer.write_all(b"a").unwrap();
        handed.write_all(b"b").unwrap();
        drop((writer, handed));
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "ab");
    }
}
