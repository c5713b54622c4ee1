//! Lends this machine's devices to others.
#![forbid(unsafe_code)]

use std::net::{SocketAddrV4, TcpListener};

use super::{Device, DeviceChoice, DeviceKind, choose};
use crate::error::Result;
use crate::ggml;

/// What a worker lends, and where. Made by [`Worker::bind`], which checks both.
pub struct Worker {
    address: SocketAddrV4,
    devices: Vec<Device>,
    n_threads: usize,
}

impl Worker {
    /// A worker that listens at `address` (port 0: any free one) and lends the devices of `choice`, or the
    /// CPU with `n_threads` threads where it names none (0: one per physical core).
    ///
    /// **There is no authentication and no encryption**, and what a client sends is hardly checked: whoever
    /// reaches the address can read and change what others compute, and likely run code here. So addresses
    /// other than the loopback device's are refused unless `trust_network` says that all who can reach it
    /// are trusted.
    ///
    /// # Errors
    /// `InvalidArgument`, for an address that others can reach without `trust_network`; `Io`, when it is
    /// taken or not of this machine; `Device`, when no device has the name asked for.
    pub fn bind(
        address: SocketAddrV4,
        choice: &DeviceChoice,
        n_threads: usize,
        trust_network: bool,
    ) -> Result<Self> {
        if !address.ip().is_loopback() && !trust_network {
            crate::bail!(
                InvalidArgument,
                "{address} can be reached from other machines, and whoever reaches a worker controls it; bind to 127.0.0.1 or say that the network is trusted"
            );
        }
        let cannot = |e: std::io::Error| crate::err!(Io, "no worker can listen at {address}: {e}");
        // ggml listens itself, and says little where it cannot.
        let tried = TcpListener::bind(address).map_err(cannot)?;
        let port = tried.local_addr().map_err(cannot)?.port();
        let chosen = choose(choice)?.into_iter().map(|(device, _)| device);
        let mut devices: Vec<Device> = chosen.collect();
        if devices.is_empty() {
            let cpu = |d: &Device| d.kind() == DeviceKind::Cpu;
            devices.extend(ggml::devices()?.into_iter().find(cpu));
        }
        Ok(Self {
            address: SocketAddrV4::new(*address.ip(), port),
            devices,
            n_threads: match n_threads {
                0 => ggml::default_threads(),
                n => n.min(ggml::max_threads()),
            },
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Serves one client after the other, until it cannot.
    ///
    /// # Errors
    /// `Io`, when the address was taken in the meantime or clients can be accepted no more; `Device`.
    pub fn serve(&self) -> Result<()> {
        ggml::serve(self.address, &self.devices, self.n_threads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn bind(address: &str, trust: bool) -> Result<Worker> {
        Worker::bind(address.parse().unwrap(), &DeviceChoice::Cpu, 1, trust)
    }

    #[test]
    fn other_machines_are_let_in_only_where_that_is_said() {
        for address in ["0.0.0.0:0", "192.168.1.2:50052", "8.8.8.8:1"] {
            let error = bind(address, false).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
        assert_ne!(bind("0.0.0.0:0", true).unwrap().address().port(), 0);
        assert!(bind("127.0.0.1:0", false).is_ok() && bind("127.0.0.9:0", false).is_ok());
    }

    #[test]
    fn an_address_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = bind(&address, false).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.message().contains(&address), "{error}");
    }
}
