//! Declarations of `shim.cpp`, and its return codes as errors.

use ggml_sys as sys;
use std::ffi::CStr;
use std::os::raw::{c_char, c_int, c_void};

use crate::error::Result;

unsafe extern "C" {
    fn remask_shim_said() -> *const c_char;
    pub fn remask_shim_hook_aborts(hear: unsafe extern "C" fn(*const c_char));
    #[cfg(feature = "dynamic-backends")]
    pub fn remask_shim_load(path: *const c_char, loaded: *mut bool, n_devices: *mut usize) -> c_int;
    pub fn remask_shim_dev_count(out: *mut usize) -> c_int;
    pub fn remask_shim_dev_get(index: usize, out: *mut sys::ggml_backend_dev_t) -> c_int;
    pub fn remask_shim_dev_props(
        device: sys::ggml_backend_dev_t,
        out: *mut sys::ggml_backend_dev_props,
    ) -> c_int;
    pub fn remask_shim_dev_init(device: sys::ggml_backend_dev_t, out: *mut sys::ggml_backend_t) -> c_int;
    pub fn remask_shim_dev_buffer_type(
        device: sys::ggml_backend_dev_t,
        out: *mut sys::ggml_backend_buffer_type_t,
    ) -> c_int;
    pub fn remask_shim_dev_host_buffer_type(
        device: sys::ggml_backend_dev_t,
        out: *mut sys::ggml_backend_buffer_type_t,
    ) -> c_int;
    pub fn remask_shim_backend_wait(backend: sys::ggml_backend_t) -> c_int;
    pub fn remask_shim_joined_device(
        parts: *mut sys::ggml_backend_dev_t,
        n_parts: usize,
        out: *mut sys::ggml_backend_dev_t,
    ) -> c_int;
    pub fn remask_shim_parts_alloc(
        buffer_type: sys::ggml_backend_buffer_type_t,
        tensors: *mut *mut sys::ggml_tensor,
        n_tensors: usize,
        out: *mut sys::ggml_backend_buffer_t,
    ) -> c_int;
    pub fn remask_shim_memory_is_there(
        buffer_type: sys::ggml_backend_buffer_type_t,
        size: usize,
        there: *mut bool,
    ) -> c_int;
    pub fn remask_shim_backend_free(backend: sys::ggml_backend_t) -> c_int;
    pub fn remask_shim_buffer_free(buffer: sys::ggml_backend_buffer_t) -> c_int;
    pub fn remask_shim_buffer_from_ptr(
        data: *mut c_void,
        size: usize,
        out: *mut sys::ggml_backend_buffer_t,
    ) -> c_int;
    pub fn remask_shim_max_size(buffer_type: sys::ggml_backend_buffer_type_t, out: *mut usize) -> c_int;
    pub fn remask_shim_alloc_size(
        buffer_type: sys::ggml_backend_buffer_type_t,
        tensor: *const sys::ggml_tensor,
        out: *mut usize,
    ) -> c_int;
    pub fn remask_shim_buffer_base(buffer: sys::ggml_backend_buffer_t, out: *mut *mut c_void) -> c_int;
    pub fn remask_shim_buffer_alloc(
        buffer_type: sys::ggml_backend_buffer_type_t,
        size: usize,
        out: *mut sys::ggml_backend_buffer_t,
    ) -> c_int;
    pub fn remask_shim_tensor_alloc(
        buffer: sys::ggml_backend_buffer_t,
        tensor: *mut sys::ggml_tensor,
        address: *mut c_void,
        status: *mut c_int,
    ) -> c_int;
    pub fn remask_shim_tensor_set(
        tensor: *mut sys::ggml_tensor,
        data: *const c_void,
        offset: usize,
        size: usize,
    ) -> c_int;
    pub fn remask_shim_tensor_set_async(
        backend: sys::ggml_backend_t,
        tensor: *mut sys::ggml_tensor,
        data: *const c_void,
        offset: usize,
        size: usize,
    ) -> c_int;
    pub fn remask_shim_tensor_get(
        tensor: *const sys::ggml_tensor,
        data: *mut c_void,
        offset: usize,
        size: usize,
    ) -> c_int;
    pub fn remask_shim_gallocr_alloc(
        allocator: sys::ggml_gallocr_t,
        graph: *mut sys::ggml_cgraph,
        done: *mut bool,
    ) -> c_int;
    pub fn remask_shim_threadpool_new(
        make: unsafe extern "C" fn(*mut sys::ggml_threadpool_params) -> *mut sys::ggml_threadpool,
        params: *mut sys::ggml_threadpool_params,
        out: *mut *mut sys::ggml_threadpool,
    ) -> c_int;
    pub fn remask_shim_cpu_compute(
        compute: super::cpu::Compute,
        graph: *mut sys::ggml_cgraph,
        plan: *mut sys::ggml_cplan,
        status: *mut c_int,
    ) -> c_int;
    pub fn remask_shim_sched_new(
        backends: *mut sys::ggml_backend_t,
        n_backends: c_int,
        graph_size: usize,
        out: *mut sys::ggml_backend_sched_t,
    ) -> c_int;
    pub fn remask_shim_sched_free(sched: sys::ggml_backend_sched_t) -> c_int;
    pub fn remask_shim_sched_measure(
        sched: sys::ggml_backend_sched_t,
        graph: *mut sys::ggml_cgraph,
        sizes: *mut usize,
        n_pieces: *mut c_int,
    ) -> c_int;
    pub fn remask_shim_sched_reserve(
        sched: sys::ggml_backend_sched_t,
        graph: *mut sys::ggml_cgraph,
        done: *mut bool,
    ) -> c_int;
    pub fn remask_shim_sched_alloc(
        sched: sys::ggml_backend_sched_t,
        graph: *mut sys::ggml_cgraph,
        done: *mut bool,
    ) -> c_int;
    pub fn remask_shim_sched_compute(
        sched: sys::ggml_backend_sched_t,
        graph: *mut sys::ggml_cgraph,
        status: *mut c_int,
    ) -> c_int;
    pub fn remask_shim_sched_start(
        sched: sys::ggml_backend_sched_t,
        graph: *mut sys::ggml_cgraph,
        status: *mut c_int,
    ) -> c_int;
    pub fn remask_shim_sched_wait(sched: sys::ggml_backend_sched_t) -> c_int;
}

#[cfg(feature = "vulkan-archive")]
unsafe extern "C" {
    pub fn remask_shim_add_vulkan() -> c_int;
}

#[cfg(feature = "rpc")]
unsafe extern "C" {
    pub fn remask_shim_rpc_add(endpoint: *const c_char, out: *mut sys::ggml_backend_reg_t) -> c_int;
    pub fn remask_shim_rpc_serve(
        endpoint: *const c_char,
        n_threads: usize,
        n_devices: usize,
        devices: *mut sys::ggml_backend_dev_t,
    ) -> c_int;
}

/// Turns a shim's return code into an error that names `what` was tried.
pub fn check(code: c_int, what: &str) -> Result<()> {
    match code {
        0 => Ok(()),
        1 => Err(crate::err!(Resource, "no memory to {what}")),
        _ => {
            let said = said();
            // vk::OutOfDeviceMemoryError and CUDA's errors say it in words only.
            let memory = ["OutOfDeviceMemory", "OutOfHostMemory", "out of memory"];
            if memory.iter().any(|words| said.contains(words)) {
                return Err(crate::err!(
                    Resource,
                    "the device has no memory to {what}: {said}"
                ));
            }
            Err(crate::err!(
                Device,
                "the device's driver gave up when asked to {what}: {said}"
            ))
        }
    }
}

/// What the last exception on this thread said, in one line.
fn said() -> String {
    // SAFETY: returns the address of a buffer of this thread.
    let text = unsafe { remask_shim_said() };
    // SAFETY: the buffer is NUL-terminated and written by this thread only.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    match text.lines().next().map(str::trim) {
        None | Some("") => "it does not say why".to_owned(),
        Some(line) => line.to_owned(),
    }
}
