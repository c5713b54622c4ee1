//! Functions of ggml's CPU backend that are called by name: linked in, or looked up in the file that the
//! backend was loaded from (feature `dynamic-backends`). Everything else goes through ggml's registry, which
//! is the same for both.

use ggml_sys as sys;
use std::os::raw::{c_int, c_void};

use crate::error::Result;

pub(super) type Compute =
    unsafe extern "C" fn(*mut sys::ggml_cgraph, *mut sys::ggml_cplan) -> sys::ggml_status;
pub(super) type SetAbortCallback =
    unsafe extern "C" fn(sys::ggml_backend_t, sys::ggml_abort_callback, *mut c_void);

macro_rules! functions {
    ($($name:ident: $symbol:ident as $kind:ty,)*) => {
        /// The functions, with the types of `ggml-cpu.h`.
        pub(super) struct Cpu {
            $(pub $name: $kind,)*
        }

        #[cfg(not(feature = "dynamic-backends"))]
        static LINKED: Cpu = Cpu {
            $($name: sys::$symbol,)*
        };

        #[cfg(feature = "dynamic-backends")]
        fn look_up() -> Result<Cpu> {
            Ok(Cpu {
                $($name: {
                    let address = super::modules::cpu_symbol(concat!(stringify!($symbol), "\0"))?;
                    // SAFETY: the function of this name in a file made from the same sources as the header.
                    unsafe { std::mem::transmute::<*mut c_void, $kind>(address) }
                },)*
            })
        }
    };
}

functions! {
    graph_plan: ggml_graph_plan as unsafe extern "C" fn(
        *const sys::ggml_cgraph,
        c_int,
        *mut sys::ggml_threadpool,
    ) -> sys::ggml_cplan,
    graph_compute: ggml_graph_compute as Compute,
    threadpool_new: ggml_threadpool_new as unsafe extern "C" fn(
        *mut sys::ggml_threadpool_params,
    ) -> *mut sys::ggml_threadpool,
    threadpool_free: ggml_threadpool_free as unsafe extern "C" fn(*mut sys::ggml_threadpool),
    set_n_threads: ggml_backend_cpu_set_n_threads as unsafe extern "C" fn(sys::ggml_backend_t, c_int),
    set_threadpool: ggml_backend_cpu_set_threadpool as unsafe extern "C" fn(
        sys::ggml_backend_t,
        sys::ggml_threadpool_t,
    ),
    set_abort_callback: ggml_backend_cpu_set_abort_callback as SetAbortCallback,
    fp16_to_fp32: ggml_cpu_fp16_to_fp32 as unsafe extern "C" fn(*const sys::ggml_fp16_t, *mut f32, i64),
}

/// The CPU backend's functions.
///
/// # Errors
/// `Device`, when the backend is a file of its own and none can be used here.
#[cfg(not(feature = "dynamic-backends"))]
pub(super) fn functions() -> Result<&'static Cpu> {
    Ok(&LINKED)
}

/// The CPU backend's functions.
///
/// # Errors
/// `Device`, when the backend is a file of its own and none can be used here.
#[cfg(feature = "dynamic-backends")]
pub(super) fn functions() -> Result<&'static Cpu> {
    static FOUND: std::sync::OnceLock<Cpu> = std::sync::OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(found);
    }
    let found = look_up()?;
    Ok(FOUND.get_or_init(|| found))
}
