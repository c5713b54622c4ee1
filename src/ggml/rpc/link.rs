//! The connection to a worker, through a relay in this process.
//!
//! ggml's client ends the process when a worker goes away: its own thread asserts that every answer came.
//! So ggml talks to a socket of ours on the loopback device, and a thread here passes everything on. When
//! the worker is lost it notes why and answers with zeros from then on; whoever used the worker looks at
//! [`Link::check`] after each call and takes the note for an error.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use super::protocol::{HEADER, HELLO, VERSION, answer_size};
use super::socket::notice_dead_peers;
use crate::error::Result;

/// How long a worker may take to accept a connection and to greet.
const GREETING: Duration = Duration::from_secs(10);

/// How often a relay without a request looks for another connection.
const LOOK_OUT: Duration = Duration::from_millis(100);

/// How long a worker may be silent while it owes an answer, which is a pass through its layers at most. A
/// machine that is gone is noticed sooner: see `socket.rs`.
const ANSWER: Duration = Duration::from_secs(300);

/// Bytes passed on at a time.
const CHUNK: usize = 256 << 10;

/// A worker and the relay to it.
pub struct Link {
    /// `host:port`.
    worker: String,
    /// Port of the relay on the loopback device.
    port: u16,
    /// Why it is of no more use.
    lost: OnceLock<String>,
    /// The connection to the worker while no request is under way.
    idle: Mutex<Option<TcpStream>>,
}

impl Link {
    /// Connects to `worker`, `host:port`, and starts a relay.
    ///
    /// # Errors
    /// `InvalidArgument`, when that is no address; `Device`, when nobody answers there; `Resource`.
    pub fn open(worker: &str) -> Result<Arc<Self>> {
        let first = connect(worker)?;
        let no_relay = |e: std::io::Error| crate::err!(Resource, "no relay to worker {worker}: {e}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(no_relay)?;
        let link = Arc::new(Self {
            worker: worker.to_owned(),
            port: listener.local_addr().map_err(no_relay)?.port(),
            lost: OnceLock::new(),
            idle: Mutex::new(Some(first)),
        });
        let served = link.clone();
        std::thread::Builder::new()
            .name("remask-relay".to_owned())
            .spawn(move || served.serve(&listener))
            .map_err(no_relay)?;
        Ok(link)
    }

    /// Where ggml finds the worker.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The worker's address.
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// # Errors
    /// `Device`, when the worker was lost, and why.
    pub fn check(&self) -> Result<()> {
        match self.lost.get() {
            None => Ok(()),
            Some(why) => crate::bail!(Device, "worker {} {why}", self.worker),
        }
    }

    /// Looks whether the worker hung up while nothing was asked of it.
    pub fn probe(&self) {
        // Where a request is under way the relay will see it.
        let Ok(idle) = self.idle.try_lock() else { return };
        let Some(stream) = idle.as_ref() else { return };
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        match stream.peek(&mut [0]) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => self.lose(format!("is lost: {e}")),
            Ok(_) => self.lose("closed the connection"),
        }
        let _ = stream.set_nonblocking(false);
    }

    fn lose(&self, why: impl Into<String>) {
        let why = why.into();
        crate::log!(Info, "worker {} {why}", self.worker);
        let _ = self.lost.set(why);
    }

    fn idle(&self) -> MutexGuard<'_, Option<TcpStream>> {
        self.idle.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Relays one connection of ggml's after the other, until the worker is lost.
    fn serve(&self, listener: &TcpListener) {
        let mut next = None;
        while self.lost.get().is_none() {
            let accepted = next.take().or_else(|| {
                listener.set_nonblocking(false).ok()?;
                Some(listener.accept().ok()?.0)
            });
            let Some(client) = accepted else { return };
            let _ = client.set_nodelay(true);
            let mut held = self.idle();
            if held.is_none() {
                match connect(&self.worker) {
                    Ok(stream) => *held = Some(stream),
                    Err(error) => self.lose(format!("does not answer any more: {error}")),
                }
            }
            drop(held);
            let mut relay = Relay {
                link: self,
                client,
                greets: true,
                buffer: vec![0; CHUNK],
            };
            // It ends when ggml hangs up; then the worker is free for others.
            loop {
                next = relay.wait(listener);
                if next.is_some() || relay.request().is_err() {
                    break;
                }
            }
            *self.idle() = None;
        }
    }
}

/// A connection to the worker at `host:port`.
fn connect(worker: &str) -> Result<TcpStream> {
    let addresses = worker.to_socket_addrs().map_err(|e| {
        crate::err!(
            InvalidArgument,
            "`{worker}` is no address of a worker, which is HOST:PORT: {e}"
        )
    })?;
    let mut why = "its name has no address".to_owned();
    for address in addresses {
        match dial(&address) {
            Ok(stream) => return Ok(stream),
            Err(error) => why = error.to_string(),
        }
    }
    crate::bail!(Device, "no worker answers at {worker}: {why}")
}

fn dial(address: &SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(address, GREETING)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(ANSWER))?;
    notice_dead_peers(&stream);
    Ok(stream)
}

/// One connection of ggml's, passed on.
struct Relay<'a> {
    link: &'a Link,
    client: TcpStream,
    /// Whether the request is the first of the connection.
    greets: bool,
    buffer: Vec<u8>,
}

impl Relay<'_> {
    /// Waits for a request, for ggml to hang up, or for another connection of ggml's, which it returns. ggml has one
    /// at a time, so that this one is then closed; but its sockets are inherited by processes that the host starts,
    /// and while such a process lives nobody hears of that.
    fn wait(&self, listener: &TcpListener) -> Option<TcpStream> {
        listener.set_nonblocking(true).ok()?;
        self.client.set_read_timeout(Some(LOOK_OUT)).ok()?;
        let found = loop {
            match self.client.peek(&mut [0]) {
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                _ => break None,
            }
            if let Ok((client, _)) = listener.accept() {
                // Some systems have it from the listener.
                break client.set_nonblocking(false).is_ok().then_some(client);
            }
        };
        let _ = self.client.set_read_timeout(None);
        found
    }

    /// Passes one request on, and its answer back.
    ///
    /// # Errors
    /// When ggml hung up.
    fn request(&mut self) -> std::io::Result<()> {
        let mut header = [0u8; HEADER];
        self.client.read_exact(&mut header)?;
        // Held until the answer is back: nobody else looks at the connection meanwhile.
        let link = self.link;
        let mut held = link.idle();
        let command = header[0];
        let size = u64::from_le_bytes(std::array::from_fn(|i| header[1 + i]));
        self.greets = command == HELLO;
        if let Some(stream) = held.as_mut() {
            let timeout = if self.greets { GREETING } else { ANSWER };
            let _ = stream.set_read_timeout(Some(timeout));
        }
        self.send(&mut held, &header);
        let last = self.pass_request(&mut held, size)?;
        match answer_size(command, last) {
            Ok(None) => Ok(()),
            Ok(Some(size)) => self.pass_answer(&mut held, size, command),
            // Of another ggml than the pinned one; ggml's client would wait for ever.
            Err(unknown) => {
                self.lose(&mut held, format!("was sent an unknown command {unknown}"));
                Err(ErrorKind::InvalidData.into())
            }
        }
    }

    /// What follows the header; returns its last eight bytes.
    fn pass_request(&mut self, held: &mut Option<TcpStream>, size: u64) -> std::io::Result<[u8; 8]> {
        let mut last = [0u8; 8];
        let mut left = size;
        while left > 0 {
            let n = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let mut part = std::mem::take(&mut self.buffer);
            let read = self.client.read_exact(&mut part[..n]);
            if read.is_ok() {
                // The last bytes may lie in two parts.
                let k = n.min(8);
                last.rotate_left(k);
                last[8 - k..].copy_from_slice(&part[n - k..n]);
                self.send(held, &part[..n]);
            }
            self.buffer = part;
            read?;
            left -= n as u64;
        }
        Ok(last)
    }

    fn send(&self, held: &mut Option<TcpStream>, bytes: &[u8]) {
        let sent = held.as_mut().map_or(Ok(()), |stream| stream.write_all(bytes));
        if let Err(error) = sent {
            self.lose(held, self.reason(&error));
        }
    }

    /// An answer of `size` bytes: the worker's, or zeros from where it was lost.
    fn pass_answer(&mut self, held: &mut Option<TcpStream>, size: u64, command: u8) -> std::io::Result<()> {
        let mut said = [0u8; 8];
        self.receive(held, &mut said);
        let said = u64::from_le_bytes(said);
        if held.is_some() && said != size {
            self.lose(held, format!("answered with {said} bytes where {size} were due"));
        }
        self.client.write_all(&size.to_le_bytes())?;
        let mut left = size;
        while left > 0 {
            let n = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let mut part = std::mem::take(&mut self.buffer);
            part[..n].fill(0);
            self.receive(held, &mut part[..n]);
            if command == HELLO && left == size {
                if held.is_some() {
                    self.check_version(held, (part[0], part[1]));
                }
                // ggml hears its own version in any case, or it would abort.
                (part[0], part[1]) = VERSION;
            }
            let sent = self.client.write_all(&part[..n]);
            self.buffer = part;
            sent?;
            left -= n as u64;
        }
        Ok(())
    }

    /// Fills `bytes`, which are zeros, as far as the worker gives some.
    fn receive(&self, held: &mut Option<TcpStream>, bytes: &mut [u8]) {
        let read = held.as_mut().map_or(Ok(()), |stream| stream.read_exact(bytes));
        if let Err(error) = read {
            bytes.fill(0);
            self.lose(held, self.reason(&error));
        }
    }

    fn check_version(&self, held: &mut Option<TcpStream>, (major, minor): (u8, u8)) {
        if major != VERSION.0 || minor > VERSION.1 {
            let (a, b) = VERSION;
            self.lose(
                held,
                format!("speaks version {major}.{minor} of the protocol; this build speaks {a}.{b}"),
            );
        }
    }

    /// Why a worker is lost, in words for the user.
    fn reason(&self, error: &std::io::Error) -> String {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut if self.greets => {
                "does not greet; it may be busy with another client, which it serves one at a time".to_owned()
            }
            ErrorKind::WouldBlock | ErrorKind::TimedOut => "does not answer any more".to_owned(),
            ErrorKind::UnexpectedEof => "closed the connection".to_owned(),
            _ => format!("is lost: {error}"),
        }
    }

    fn lose(&self, held: &mut Option<TcpStream>, why: String) {
        *held = None;
        self.link.lose(why);
    }
}

#[cfg(test)]
mod tests;
