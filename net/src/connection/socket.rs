//! Socket options, and ending a connection from either half.

use std::time::Duration;

use rustix::net::{Shutdown, shutdown, sockopt};
use tokio::net::TcpStream;

/// Unacknowledged data or unanswered probes for this long end the connection.
const DEAD_AFTER: Duration = Duration::from_secs(6);
const PROBE_AFTER: Duration = Duration::from_secs(3);
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// No delay for small frames; a host that vanished is noticed within seconds.
pub(super) fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, PROBE_EVERY)?;
    sockopt::set_tcp_user_timeout(stream, DEAD_AFTER.as_millis() as u32)?;
    Ok(())
}

/// Ends both directions. That it is over already is as good.
pub(super) fn end(stream: &TcpStream) {
    let _ = shutdown(stream, Shutdown::Both);
}

/// Ends our direction once the kernel has sent what it holds.
pub(super) fn end_writing(stream: &TcpStream) {
    let _ = shutdown(stream, Shutdown::Write);
}
