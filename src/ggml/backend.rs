//! Devices that can compute: the CPU and whatever backends are compiled in or loaded.

use ggml_sys as sys;
use std::ffi::CStr;
use std::os::raw::c_char;
use std::ptr::NonNull;

use super::abort::install_hooks;
use super::{rpc, shim};
use crate::error::Result;

/// What kind of device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// The host's processor.
    Cpu,
    /// A GPU with memory of its own.
    Gpu,
    /// A GPU that shares the host's memory.
    IntegratedGpu,
    /// Anything else that helps the CPU (BLAS, AMX, an NPU).
    Accelerator,
}

/// A device. Cheap to copy; valid for the life of the process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Device(NonNull<sys::ggml_backend_device>);

// SAFETY: devices are entries of ggml's registry: immutable after registration, never freed.
unsafe impl Send for Device {}
// SAFETY: as for Send.
unsafe impl Sync for Device {}

/// Facts about a device.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// Name to choose it by, such as `CPU`, `CUDA0`, `Vulkan0`.
    pub name: String,
    /// The maker's name for it.
    pub description: String,
    /// What kind of device it is.
    pub kind: DeviceKind,
    /// Bytes of memory that are free now; 0 where the driver does not say.
    pub memory_free: u64,
    /// Bytes of memory in all; 0 where the driver does not say.
    pub memory_total: u64,
    /// Whether weights may be used where they lie in host memory (a mapped file), without a copy.
    pub takes_host_memory: bool,
}

/// All devices of this build and machine, in ggml's order.
///
/// # Errors
/// `Device`, when a driver throws while it is asked.
pub fn devices() -> Result<Vec<Device>> {
    install_hooks();
    #[cfg(feature = "dynamic-backends")]
    let _registry = super::modules::registry();
    let mut n = 0usize;
    // SAFETY: `n` is writable.
    let code = unsafe { shim::remask_shim_dev_count(&mut n) };
    shim::check(code, "count devices")?;
    let mut devices = Vec::new();
    for index in 0..n {
        let mut raw = std::ptr::null_mut();
        // ggml-backend-reg.cpp asserts index < count.
        // SAFETY: `raw` is writable and the index below the count.
        let code = unsafe { shim::remask_shim_dev_get(index, &mut raw) };
        shim::check(code, "list devices")?;
        devices.extend(NonNull::new(raw).map(Device));
    }
    Ok(devices)
}

/// The host's processor.
///
/// # Errors
/// `Device`, when there is no CPU backend.
pub fn cpu() -> Result<Device> {
    for device in devices()? {
        if device.info()?.kind == DeviceKind::Cpu {
            return Ok(device);
        }
    }
    // Where backends are files, this says where they were looked for.
    super::cpu::functions()?;
    crate::bail!(Device, "this build has no CPU backend")
}

impl Device {
    /// Facts about the device, asked anew.
    ///
    /// # Errors
    /// `Device`, when its driver throws.
    pub fn info(self) -> Result<DeviceInfo> {
        // SAFETY: all fields are integers, pointers or bools, for which zeros are valid.
        let mut props: sys::ggml_backend_dev_props = unsafe { std::mem::zeroed() };
        // SAFETY: `props` is writable.
        let code = unsafe { shim::remask_shim_dev_props(self.raw(), &mut props) };
        shim::check(code, "describe a device")?;
        // ggml names a worker by the relay to it.
        let (name, description) = match rpc::name(self) {
            Some(name) => (name, "on another machine".to_owned()),
            None => (text(props.name), text(props.description)),
        };
        Ok(DeviceInfo {
            name,
            description,
            kind: self.kind(),
            memory_free: props.memory_free as u64,
            memory_total: props.memory_total as u64,
            takes_host_memory: props.caps.buffer_from_host_ptr,
        })
    }

    /// What kind of device it is. No driver is asked.
    pub fn kind(self) -> DeviceKind {
        // SAFETY: the device is live; the call returns a field of it.
        match unsafe { sys::ggml_backend_dev_type(self.raw()) } {
            sys::GGML_BACKEND_DEVICE_TYPE_CPU => DeviceKind::Cpu,
            sys::GGML_BACKEND_DEVICE_TYPE_GPU => DeviceKind::Gpu,
            sys::GGML_BACKEND_DEVICE_TYPE_IGPU => DeviceKind::IntegratedGpu,
            _ => DeviceKind::Accelerator,
        }
    }

    pub(super) fn from_raw(raw: NonNull<sys::ggml_backend_device>) -> Self {
        Self(raw)
    }

    pub(super) fn raw(self) -> sys::ggml_backend_dev_t {
        self.0.as_ptr()
    }

    /// Host memory from which it copies while the host goes on; `None` where it does not.
    pub(super) fn staging_memory(self) -> Result<Option<sys::ggml_backend_buffer_type_t>> {
        // SAFETY: all fields are integers, pointers or bools, for which zeros are valid.
        let mut props: sys::ggml_backend_dev_props = unsafe { std::mem::zeroed() };
        // SAFETY: `props` is writable.
        let code = unsafe { shim::remask_shim_dev_props(self.raw(), &mut props) };
        shim::check(code, "describe a device")?;
        if !(props.caps.async_ && props.caps.host_buffer) {
            return Ok(None);
        }
        let mut kind = std::ptr::null_mut();
        // SAFETY: the device is live, `kind` writable.
        let code = unsafe { shim::remask_shim_dev_host_buffer_type(self.raw(), &mut kind) };
        shim::check(code, "find memory to stage in")?;
        Ok((!kind.is_null()).then_some(kind))
    }

    pub(super) fn buffer_type(self) -> Result<sys::ggml_backend_buffer_type_t> {
        let mut kind = std::ptr::null_mut();
        let _tables = super::joined::tables();
        // SAFETY: the device is live, `kind` writable.
        let code = unsafe { shim::remask_shim_dev_buffer_type(self.raw(), &mut kind) };
        shim::check(code, "find a device's memory")?;
        Ok(kind)
    }
}

/// The string at `raw`, which is NULL or belongs to ggml's registry.
fn text(raw: *const c_char) -> String {
    if raw.is_null() {
        return String::new();
    }
    // SAFETY: not NULL, and device names are NUL-terminated strings that live with the registry.
    unsafe { CStr::from_ptr(raw) }.to_string_lossy().into_owned()
}
