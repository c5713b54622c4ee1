//! Socket options that the standard library does not have.

use std::net::TcpStream;

/// Has the system notice within about half a minute that the other machine is gone, also when nothing is
/// sent: it answers no probes, or does not acknowledge what was sent.
#[cfg(target_os = "linux")]
pub fn notice_dead_peers(stream: &TcpStream) {
    const IDLE_S: i32 = 10;
    const INTERVAL_S: i32 = 5;
    const PROBES: i32 = 4;
    let options = [
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, IDLE_S),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, INTERVAL_S),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, PROBES),
        (
            libc::IPPROTO_TCP,
            libc::TCP_USER_TIMEOUT,
            1000 * (IDLE_S + INTERVAL_S * PROBES),
        ),
    ];
    for (level, name, value) in options {
        set(stream, level, name, value);
    }
}

/// As above, with the system's own times.
#[cfg(all(unix, not(target_os = "linux")))]
pub fn notice_dead_peers(stream: &TcpStream) {
    set(stream, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1);
}

#[cfg(not(unix))]
pub fn notice_dead_peers(_stream: &TcpStream) {}

/// What the system does not take it does without.
#[cfg(unix)]
fn set(stream: &TcpStream, level: i32, name: i32, value: i32) {
    use std::os::fd::AsRawFd;
    let size = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the descriptor is open while the stream is borrowed; the value is an int of the size told.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(&value).cast(),
            size,
        )
    };
}
