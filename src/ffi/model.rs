//! Models: facts and metadata.

use std::ffi::c_char;

use super::error::remask_error;
use super::types::remask_status;

/// A loaded model: weights, tokenizer, chat template, metadata. Immutable: share it freely between
/// threads and sessions.
pub struct remask_model {
    model: (),
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

/// Gives a model back; NULL is fine. Whatever was made from it stays valid and keeps what it needs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_model_free(model: *mut remask_model) {}

/// Prepares `info`. Pass `sizeof(remask_model_info)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_model_info_init(info: *mut remask_model_info, struct_size: usize) {}

/// Facts about a model.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_model_get_info(
    model: *const remask_model,
    out_info: *mut remask_model_info,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Number of metadata entries; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_model_meta_count(model: *const remask_model) -> usize {}

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
}
