//! A timer on the clock that goes on while the machine sleeps.
//!
//! The runtime's own timers stand still during a suspend and so fire late after it, by as long as they had left. A
//! `timerfd` on `CLOCK_BOOTTIME` is due the moment the machine wakes. A pause of a whole virtual machine stops
//! that clock too: nothing inside the machine can notice it.

use std::fs::File;
use std::io;

use client::clock::BootTime;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;

/// One timer, to be awaited again and again.
#[derive(Debug)]
pub(crate) struct BootTimer(Receiver);

impl BootTimer {
    /// Makes one that is not set. Needs a runtime around it.
    ///
    /// # Errors
    ///
    /// Fails if the system has no such timer to give.
    pub(crate) fn new() -> io::Result<BootTimer> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        // Read like the end of a pipe.
        Ok(BootTimer(Receiver::from_file_unchecked(File::from(timer))?))
    }

    /// Resolves once `at` has come. Dropping the future does no harm.
    pub(crate) async fn until(&self, at: BootTime) {
        if BootTime::now() >= at || self.set(at).is_err() {
            return;
        }
        while self.0.readable().await.is_ok() {
            if BootTime::now() >= at {
                return;
            }
            // Left over from an earlier setting: setting a timer takes back what it had to say.
            _ = self.0.try_read(&mut [0; 8]);
        }
    }

    fn set(&self, at: BootTime) -> io::Result<()> {
        // A timer's resolution must not make it early.
        let at_us = at.0.saturating_add(1);
        let setting = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: i64::try_from(at_us / 1_000_000).unwrap_or(i64::MAX),
                tv_nsec: (at_us % 1_000_000 * 1_000) as _,
            },
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &setting)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_is_never_early_and_can_be_set_again() {
        let timer = BootTimer::new().unwrap();
        let far = BootTime::now().after(Duration::from_secs(3600));
        tokio::select! {
            biased;
            () = timer.until(far) => panic!("early"),
            () = std::future::ready(()) => {}
        }
        for _ in 0..3 {
            let at = BootTime::now().after(Duration::from_millis(5));
            timer.until(at).await;
            assert!(BootTime::now() >= at);
        }
        timer.until(BootTime(0)).await;
    }
}
