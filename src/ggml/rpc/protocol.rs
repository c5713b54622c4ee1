//! What a relay has to know of ggml's RPC protocol (ggml-rpc.cpp of the pinned version): how long the
//! answer to a command is.

/// The version that the pinned ggml speaks (`RPC_PROTO_MAJOR_VERSION`, `.._MINOR_VERSION`).
pub const VERSION: (u8, u8) = (7, 0);

/// A request is a byte that names the command, a u64 with the size of what follows, and that; an answer is
/// a u64 with its size, and the answer. All numbers are little-endian on the machines that ggml knows.
pub const HEADER: usize = 9;

/// `RPC_CMD_HELLO`, the first command of every connection.
pub const HELLO: u8 = 14;

/// `RPC_CONN_CAPS_SIZE`, behind four bytes of version.
const CAPS: u64 = 24;

/// The size of the answer to `command`, whose request ended with `last`; `None` where there is none.
///
/// # Errors
/// The command, where the pinned version has no such.
pub fn answer_size(command: u8, last: [u8; 8]) -> Result<Option<u64>, u8> {
    // `rpc_cmd` in its order, with the size of each `rpc_msg_*_rsp`.
    Ok(Some(match command {
        // ALLOC_BUFFER, GET_DEVICE_MEMORY
        0 | 11 => 16,
        // GET_ALIGNMENT, GET_MAX_SIZE, BUFFER_GET_BASE, GET_ALLOC_SIZE
        1..=3 | 13 => 8,
        // SET_TENSOR_HASH, COPY_TENSOR
        7 | 9 => 1,
        // GET_TENSOR: its request ends with the number of bytes that it asks for
        8 => u64::from_le_bytes(last),
        HELLO => 4 + CAPS,
        // DEVICE_COUNT
        15 => 4,
        // FREE_BUFFER, BUFFER_CLEAR, SET_TENSOR, GRAPH_COMPUTE, INIT_TENSOR, GRAPH_RECOMPUTE, MEMSET_TENSOR
        4..=6 | 10 | 12 | 16 | 17 => return Ok(None),
        unknown => return Err(unknown),
    }))
}
