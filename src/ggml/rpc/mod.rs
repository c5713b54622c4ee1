//! Devices of workers on other machines, through ggml's RPC backend.

mod link;
mod protocol;
mod socket;

use ggml_sys as sys;
use std::ffi::CString;
use std::net::SocketAddrV4;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard};

use super::abort::install_hooks;
use super::backend::Device;
use super::shim;
use crate::error::Result;
use link::Link;

/// A worker that this process is or was connected to. ggml never forgets a device, and neither does this:
/// one entry for each worker, and one more each time that a worker was lost.
struct Server {
    link: Arc<Link>,
    devices: Vec<Device>,
}

static SERVERS: Mutex<Vec<Server>> = Mutex::new(Vec::new());

fn servers() -> MutexGuard<'static, Vec<Server>> {
    SERVERS.lock().unwrap_or_else(|e| e.into_inner())
}

/// The devices of the worker at `host:port`.
///
/// # Errors
/// `InvalidArgument`, when that is no address; `Device`, when no worker answers there.
pub fn connect(worker: &str) -> Result<Vec<Device>> {
    install_hooks();
    let mut servers = servers();
    let known = servers.iter().filter(|s| s.link.worker() == worker);
    for server in known {
        server.link.probe();
        if server.link.check().is_ok() {
            return Ok(server.devices.clone());
        }
    }
    let link = Link::open(worker)?;
    let endpoint = CString::new(link.endpoint()).map_err(|_| crate::err!(Internal, "an address with NUL"))?;
    let mut registry = std::ptr::null_mut();
    // SAFETY: the text lives through the call, which copies it; `registry` is writable.
    let code = unsafe { shim::remask_shim_rpc_add(endpoint.as_ptr(), &mut registry) };
    link.check()?;
    shim::check(code, "connect to a worker")?;
    let mut devices = Vec::new();
    if !registry.is_null() {
        // SAFETY: the registry is live; it is never freed.
        let n = unsafe { sys::ggml_backend_reg_dev_count(registry) };
        for i in 0..n {
            // SAFETY: as above; the index is below the count, which ggml-rpc.cpp asserts.
            let raw = unsafe { sys::ggml_backend_reg_dev_get(registry, i) };
            devices.extend(NonNull::new(raw).map(Device::from_raw));
        }
    }
    if devices.is_empty() {
        crate::bail!(Device, "worker {worker} has no device");
    }
    servers.push(Server {
        link,
        devices: devices.clone(),
    });
    Ok(devices)
}

/// The name of a worker's device: `rpc://host:port`, with `/1` and so on for further ones.
pub fn name(device: Device) -> Option<String> {
    let servers = servers();
    servers.iter().find_map(|s| {
        let i = s.devices.iter().position(|d| *d == device)?;
        Some(match i {
            0 => format!("rpc://{}", s.link.worker()),
            i => format!("rpc://{}/{i}", s.link.worker()),
        })
    })
}

/// The connections behind some devices.
#[derive(Clone, Default)]
pub struct Links(Vec<Arc<Link>>);

impl Links {
    /// Those of `devices`; none for a device of this machine.
    pub fn of(devices: &[Device]) -> Self {
        let servers = servers();
        let used = |s: &&Server| s.devices.iter().any(|d| devices.contains(d));
        Self(servers.iter().filter(used).map(|s| s.link.clone()).collect())
    }

    /// Whether all devices are of this machine.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The result of a call: a lost worker tells more than what ggml made of its silence.
    ///
    /// # Errors
    /// `Device`, when a worker was lost; else what `done` says.
    pub fn settle<T>(&self, done: Result<T>) -> Result<T> {
        for link in &self.0 {
            link.check()?;
        }
        done
    }
}

/// Lends `devices` to one client after the other, who connect to `address`. Returns only with an error.
///
/// # Errors
/// `Device`, when a driver gives up; `Io`, when nothing can be accepted at the address.
pub fn serve(address: SocketAddrV4, devices: &[Device], n_threads: usize) -> Result<()> {
    install_hooks();
    let endpoint =
        CString::new(address.to_string()).map_err(|_| crate::err!(Internal, "an address with NUL"))?;
    let mut raw: Vec<sys::ggml_backend_dev_t> = devices.iter().map(|d| d.raw()).collect();
    // SAFETY: the text and the array of live devices live through the call.
    let code =
        unsafe { shim::remask_shim_rpc_serve(endpoint.as_ptr(), n_threads, raw.len(), raw.as_mut_ptr()) };
    shim::check(code, "serve a client")?;
    crate::bail!(Io, "no more clients can be accepted at {address}")
}
