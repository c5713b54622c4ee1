//! Structs that carry their size, so that they can grow: callers and library of different ages understand
//! each other.

use super::guard::{Failure, Outcome, invalid};

/// A struct of the interface that begins with `struct_size: u32`.
///
/// # Safety
/// `#[repr(C)]` without padding; every pattern of bits is a value; the first field is the size.
pub(super) unsafe trait Sized32: Copy {
    /// Its name, for messages.
    const NAME: &'static str;
    /// The defaults.
    fn defaults() -> Self;
}

/// Implements [`Sized32`].
macro_rules! sized {
    ($name:ident, $defaults:expr) => {
        // SAFETY: repr(C), fields ordered so that there is no padding (a test of the ABI checks it), made
        // of integers, floats and raw pointers; `struct_size` is the first field.
        unsafe impl $crate::ffi::sized::Sized32 for $name {
            const NAME: &'static str = stringify!($name);
            fn defaults() -> Self {
                // SAFETY: integers, floats, raw pointers and optional functions, for which zeros are valid.
                let zero: Self = unsafe { std::mem::zeroed() };
                let set: fn(Self) -> Self = $defaults;
                set(zero)
            }
        }
    };
}
pub(super) use sized;

/// Largest size taken; more is a caller's mistake.
const MAX_SIZE: usize = 4096;

/// Sets the caller's struct of `struct_size` bytes to the defaults; what is newer than this library to 0.
///
/// # Safety
/// `out` is NULL or points at `struct_size` writable bytes.
pub(super) unsafe fn init<T: Sized32>(out: *mut T, struct_size: usize) {
    if out.is_null() || struct_size < size_of::<u32>() || struct_size > MAX_SIZE {
        return;
    }
    // SAFETY: so many bytes are writable, by this function's contract.
    unsafe { out.cast::<u8>().write_bytes(0, struct_size) };
    let n = struct_size.min(size_of::<T>());
    let defaults = T::defaults();
    // SAFETY: both sides have at least `n` bytes; `defaults` is ours.
    unsafe { std::ptr::copy_nonoverlapping((&raw const defaults).cast::<u8>(), out.cast(), n) };
    let size = u32::try_from(struct_size).unwrap_or(0);
    // SAFETY: at least 4 bytes are writable; written without asking for alignment.
    unsafe { out.cast::<u32>().write_unaligned(size) };
}

/// The caller's options; NULL is the defaults. Fields that the caller does not know have their defaults,
/// those that this library does not know must be 0.
///
/// # Safety
/// `from` is NULL or points at a struct as [`init`] prepares it.
pub(super) unsafe fn read<T: Sized32>(from: *const T) -> Outcome<T> {
    let mut value = T::defaults();
    if from.is_null() {
        return Ok(value);
    }
    // SAFETY: not NULL; begins with its size, by this function's contract.
    let size = unsafe { size::<T>(from) }?;
    let n = size.min(size_of::<T>());
    // SAFETY: both sides have at least `n` bytes, and every pattern of bits is a value.
    unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), (&raw mut value).cast(), n) };
    let rest = from.cast::<u8>().wrapping_add(n);
    // SAFETY: the caller's struct has `size` bytes, of which `n` lie before `rest`.
    let rest = unsafe { std::slice::from_raw_parts(rest, size - n) };
    if rest.iter().any(|&byte| byte != 0) {
        return Err(Failure::from(crate::err!(
            Unsupported,
            "{} sets an option that is newer than this library ({size} bytes, {} known)",
            T::NAME,
            size_of::<T>()
        )));
    }
    Ok(value)
}

/// Gives `value` to the caller, as far as the struct goes that it prepared.
///
/// # Safety
/// `out` is NULL or points at a writable struct as [`init`] prepares it.
pub(super) unsafe fn write<T: Sized32>(value: &T, out: *mut T) -> Outcome {
    if out.is_null() {
        return Err(invalid(format!("{} is NULL", T::NAME)));
    }
    // SAFETY: not NULL; begins with its size, by this function's contract.
    let size = unsafe { size::<T>(out) }?;
    let skip = size_of::<u32>();
    let n = size.min(size_of::<T>()) - skip;
    let from = (value as *const T).cast::<u8>();
    // SAFETY: the value has more than `skip` bytes: it begins with its size.
    let from = unsafe { from.add(skip) };
    // SAFETY: as above, for the caller's struct.
    let to = unsafe { out.cast::<u8>().add(skip) };
    // SAFETY: both sides have at least `n` bytes after the size.
    unsafe { std::ptr::copy_nonoverlapping(from, to, n) };
    Ok(())
}

/// # Safety
/// `from` points at 4 readable bytes.
unsafe fn size<T: Sized32>(from: *const T) -> Outcome<usize> {
    // SAFETY: readable by this function's contract; read without asking for alignment.
    let size = unsafe { from.cast::<u32>().read_unaligned() } as usize;
    if !(size_of::<u64>()..=MAX_SIZE).contains(&size) {
        return Err(invalid(format!(
            "struct_size of {} is {size}; prepare it with {}_init",
            T::NAME,
            T::NAME
        )));
    }
    Ok(size)
}
