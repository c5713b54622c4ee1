//! Arguments from C, checked: texts, arrays, handles, and what goes out through pointers.

use std::ffi::{CStr, c_char};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use super::guard::{Failure, Outcome, busy, invalid, too_small};
use super::types::REMASK_NUL_TERMINATED;

/// What a handle points at, kept alive for the call even when a callback frees the handle.
///
/// # Safety
/// `handle` is NULL or was made by [`give`] and not freed.
pub(super) unsafe fn handle<T>(handle: *const T, what: &str) -> Outcome<Arc<T>> {
    if handle.is_null() {
        return Err(invalid(format!("the {what} is NULL")));
    }
    if !handle.is_aligned() {
        return Err(invalid(format!("the {what} is not a handle")));
    }
    // SAFETY: a live handle, by this function's contract.
    unsafe { Arc::increment_strong_count(handle) };
    // SAFETY: the count that was just added is this value's.
    Ok(unsafe { Arc::from_raw(handle) })
}

/// Hands `value` out as a handle.
///
/// # Safety
/// `out` was checked by [`clear`].
pub(super) unsafe fn give<T>(value: T, out: *mut *mut T) {
    let raw = Arc::into_raw(Arc::new(value)).cast_mut();
    // SAFETY: checked by this function's contract.
    unsafe { out.write(raw) };
}

/// Checks where a handle is to go and sets it to NULL, so that a failed call leaves none.
///
/// # Safety
/// `out` is NULL or writable.
pub(super) unsafe fn clear<T>(out: *mut *mut T, what: &str) -> Outcome {
    check_out(out, what)?;
    // SAFETY: not NULL and aligned: checked above; writable by this function's contract.
    unsafe { out.write(std::ptr::null_mut()) };
    Ok(())
}

/// Takes a handle back.
///
/// # Safety
/// As for [`handle`]; the handle is not used again.
pub(super) unsafe fn free<T>(handle: *const T) {
    if !handle.is_null() && handle.is_aligned() {
        // SAFETY: the count is the caller's, who gives it up.
        let value = unsafe { Arc::from_raw(handle) };
        super::guard::plain((), || drop(value));
    }
}

/// Locks what a handle guards, or says that it is busy.
pub(super) fn lock<'a, T>(mutex: &'a Mutex<T>, what: &str) -> Outcome<MutexGuard<'a, T>> {
    match mutex.try_lock() {
        Ok(guard) => Ok(guard),
        Err(TryLockError::WouldBlock) => Err(busy(what)),
        Err(TryLockError::Poisoned(_)) => Err(Failure::from(crate::err!(
            Internal,
            "an earlier call on this {what} ended in a fault; free it"
        ))),
    }
}

fn check_out<T>(out: *mut T, what: &str) -> Outcome {
    if out.is_null() || !out.is_aligned() {
        return Err(invalid(format!("{what} is NULL or not aligned")));
    }
    Ok(())
}

/// The array at `data`; `len` 0 needs none.
///
/// # Safety
/// `data` is NULL or points at `len` values that stay unchanged for `'a`.
pub(super) unsafe fn array<'a, T>(data: *const T, len: usize, what: &str) -> Outcome<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() || !data.is_aligned() {
        return Err(invalid(format!(
            "{what} is NULL or not aligned, for {len} elements"
        )));
    }
    if len > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(invalid(format!(
            "{what} has {len} elements, more than memory can hold"
        )));
    }
    // SAFETY: not NULL, aligned and not too long: checked above; readable by this function's contract.
    Ok(unsafe { std::slice::from_raw_parts(data, len) })
}

/// The bytes at `data`, up to a NUL where `len` says so.
///
/// # Safety
/// As for [`array`], or NUL-terminated where `len` is `REMASK_NUL_TERMINATED`.
pub(super) unsafe fn bytes<'a>(data: *const c_char, len: usize, what: &str) -> Outcome<&'a [u8]> {
    if len == REMASK_NUL_TERMINATED {
        if data.is_null() {
            return Err(invalid(format!("{what} is NULL")));
        }
        // SAFETY: not NULL: checked above; NUL-terminated by this function's contract.
        return Ok(unsafe { CStr::from_ptr(data) }.to_bytes());
    }
    // SAFETY: by this function's contract.
    unsafe { array(data.cast::<u8>(), len, what) }
}

/// The text at `data`.
///
/// # Safety
/// As for [`bytes`].
pub(super) unsafe fn text<'a>(data: *const c_char, len: usize, what: &str) -> Outcome<&'a str> {
    // SAFETY: by this function's contract.
    let bytes = unsafe { bytes(data, len, what) }?;
    std::str::from_utf8(bytes)
        .map_err(|e| invalid(format!("{what} is not UTF-8 at byte {}", e.valid_up_to())))
}

/// A NUL-terminated text of an option; NULL is none.
///
/// # Safety
/// `data` is NULL or NUL-terminated.
pub(super) unsafe fn option_text<'a>(data: *const c_char, what: &str) -> Outcome<Option<&'a str>> {
    match data.is_null() {
        true => Ok(None),
        // SAFETY: by this function's contract.
        false => unsafe { text(data, REMASK_NUL_TERMINATED, what) }.map(Some),
    }
}

/// Token ids, which must not be negative.
///
/// # Safety
/// As for [`array`].
pub(super) unsafe fn tokens(data: *const i32, len: usize, what: &str) -> Outcome<Vec<u32>> {
    // SAFETY: by this function's contract.
    let ids = unsafe { array(data, len, what) }?;
    let mut tokens = crate::error::try_vec(len, 0u32, what)?;
    for (i, (to, &id)) in tokens.iter_mut().zip(ids).enumerate() {
        *to = u32::try_from(id).map_err(|_| invalid(format!("{what}: token {i} is {id}")))?;
    }
    Ok(tokens)
}

/// Checks bits against those that are known.
pub(super) fn flags(flags: u32, known: u32, what: &str) -> Outcome {
    match flags & !known {
        0 => Ok(()),
        odd => Err(invalid(format!("{what} has unknown bits {odd:#x}"))),
    }
}

/// Copies `items` into the caller's buffer and says how many there are.
///
/// # Safety
/// `buffer` is NULL or has room for `capacity` values, `len` is NULL or writable.
pub(super) unsafe fn copy_out<T: Copy>(
    items: &[T],
    buffer: *mut T,
    capacity: usize,
    len: *mut usize,
) -> Outcome {
    // SAFETY: by this function's contract.
    unsafe { room(items.len(), buffer, capacity, len) }?;
    if !items.is_empty() {
        // SAFETY: `room` checked that the buffer is there and large enough; the caller's memory and
        // ours do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(items.as_ptr(), buffer, items.len()) };
    }
    Ok(())
}

/// Checks the caller's buffer for `needed` values, and tells `len`.
///
/// # Safety
/// As for [`copy_out`].
pub(super) unsafe fn room<T>(needed: usize, buffer: *mut T, capacity: usize, len: *mut usize) -> Outcome {
    check_out(len, "len")?;
    if capacity > 0 {
        check_out(buffer, "the buffer")?;
    }
    // SAFETY: not NULL and aligned: checked above; writable by this function's contract.
    unsafe { len.write(needed) };
    match needed <= capacity {
        true => Ok(()),
        false => Err(too_small(needed, capacity)),
    }
}

/// Writes one value where the caller wants it.
///
/// # Safety
/// `out` is NULL or writable.
pub(super) unsafe fn put<T>(value: T, out: *mut T) {
    if !out.is_null() && out.is_aligned() {
        // SAFETY: not NULL and aligned: checked above; writable by this function's contract.
        unsafe { out.write(value) };
    }
}
