//! Models: facts and metadata.

use std::ffi::{CString, c_char};

use super::args::{copy_out, free, handle};
use super::error::remask_error;
use super::guard::{Outcome, call, not_found, plain};
use super::sized::{self, Sized32, sized};
use super::types::remask_status;
use crate::model::Model;

/// A loaded model: weights, tokenizer, chat template, metadata. Immutable: share it freely between
/// threads and sessions.
pub struct remask_model {
    pub(super) model: Model,
    arch: CString,
}

impl remask_model {
    pub(super) fn new(model: Model) -> Outcome<Self> {
        let arch = CString::new(model.sizes().arch).unwrap_or_default();
        Ok(Self { model, arch })
    }
}

/// Facts about a model. Begin with `remask_model_info_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct remask_model_info {
    /// Set by `remask_model_info_init`.
    pub struct_size: u32,
    /// 1 if the model has a chat template, else 0.
    pub has_chat_template: u32,
    /// Longest canvas that the model was trained for, in slots.
    pub n_ctx: u32,
    /// Tokens in the vocabulary: columns of the logits.
    pub n_vocab: u32,
    /// Size of a token's hidden state.
    pub n_embd: u32,
    /// Layers.
    pub n_layer: u32,
    /// Query heads.
    pub n_head: u32,
    /// Key and value heads.
    pub n_head_kv: u32,
    /// Hidden size of the feed-forward network.
    pub n_ff: u32,
    /// Token of a masked slot.
    pub mask_token: i32,
    /// Token that begins a text; -1 if none.
    pub bos_token: i32,
    /// Token that ends a text; -1 if none.
    pub eos_token: i32,
    /// Token that ends a turn; -1 if none.
    pub eot_token: i32,
    /// Token that pads; -1 if none.
    pub pad_token: i32,
    /// Weights in all, as a count.
    pub n_params: u64,
    /// Weights in all, in bytes.
    pub n_bytes: u64,
    /// Architecture, such as "llada"; NUL-terminated, lives as long as the model's handle.
    pub arch: *const c_char,
}

sized!(remask_model_info, |zero| zero);

/// Gives a model back; NULL is fine. Whatever was made from it stays valid and keeps what it needs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_model_free(model: *mut remask_model) {
    // SAFETY: a live handle or NULL, given up by the caller.
    unsafe { free(model) };
}

/// Prepares `info`. Pass `sizeof(remask_model_info)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_model_info_init(info: *mut remask_model_info, struct_size: usize) {
    // SAFETY: by the caller's contract.
    unsafe { sized::init(info, struct_size) };
}

/// Facts about a model.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_model_get_info(
    model: *const remask_model,
    out_info: *mut remask_model_info,
    error: *mut *mut remask_error,
) -> remask_status {
    let body = || {
        // SAFETY: by the caller's contract.
        let model = unsafe { handle(model, "model") }?;
        let sizes = model.model.sizes();
        let specials = *model.model.tokenizer().specials();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let id = |id: Option<u32>| id.and_then(|id| i32::try_from(id).ok()).unwrap_or(-1);
        let info = remask_model_info {
            has_chat_template: u32::from(model.model.chat_template().is_some()),
            n_ctx: count(sizes.n_ctx),
            n_vocab: count(sizes.n_vocab),
            n_embd: count(sizes.n_embd),
            n_layer: count(sizes.n_layer),
            n_head: count(sizes.n_head),
            n_head_kv: count(sizes.n_head_kv),
            n_ff: count(sizes.n_ff),
            mask_token: id(Some(model.model.mask_token())),
            bos_token: id(specials.bos),
            eos_token: id(specials.eos),
            eot_token: id(specials.eot),
            pad_token: id(specials.pad),
            n_params: model.model.n_params(),
            n_bytes: model.model.n_bytes(),
            arch: model.arch.as_ptr(),
            ..remask_model_info::defaults()
        };
        // SAFETY: by the caller's contract.
        unsafe { sized::write(&info, out_info) }
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}

/// Number of metadata entries; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_model_meta_count(model: *const remask_model) -> usize {
    plain(0, || {
        // SAFETY: by the caller's contract.
        let model = unsafe { handle(model, "model") };
        model.map_or(0, |m| m.model.metadata().len())
    })
}

/// Key of metadata entry `index`, as text, in the manner of `remask_model_decode`. Fails with
/// `REMASK_STATUS_NOT_FOUND` beyond the last.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_model_meta_key(
    model: *const remask_model,
    index: usize,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
    error: *mut *mut remask_error,
) -> remask_status {
    let body = || {
        // SAFETY: by the caller's contract.
        let model = unsafe { handle(model, "model") }?;
        let Some((key, _)) = model.model.metadata().iter().nth(index) else {
            return Err(not_found(format!("there is no metadata entry {index}")));
        };
        // SAFETY: by the caller's contract.
        unsafe { copy_out(key.as_bytes(), text.cast(), capacity, len) }
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}

/// Value of a metadata entry in the manner of `remask_model_decode`: text as it is, numbers in decimal,
/// `true` and `false`, arrays as JSON. Fails with `REMASK_STATUS_NOT_FOUND` for an unknown key.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_model_meta_value(
    model: *const remask_model,
    key: *const c_char,
    key_len: usize,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
    error: *mut *mut remask_error,
) -> remask_status {
    let body = || {
        // SAFETY: by the caller's contract.
        let model = unsafe { handle(model, "model") }?;
        // SAFETY: by the caller's contract.
        let key = unsafe { super::args::text(key, key_len, "the key") }?;
        let Some(value) = model.model.metadata().get(key) else {
            return Err(not_found(format!("there is no metadata key `{key}`")));
        };
        // SAFETY: by the caller's contract.
        unsafe { copy_out(value.to_string().as_bytes(), text.cast(), capacity, len) }
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}
