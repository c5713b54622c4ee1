/* remask - embeddable inference for masked-diffusion language models.
 * Made from src/ffi by `cargo xtask header`; do not edit.
 *
 * Every call
 *   returns a status; REMASK_STATUS_OK is 0. `error`, always last, may be NULL; else it receives NULL or,
 *   when the call fails, an error object to free with remask_error_free. What a failed call would have
 *   given is NULL or untouched.
 * Handles
 *   are given by `new`, `load` and `copy` and taken by `free`, in any order: what was made from a handle
 *   keeps what it needs of it. A handle may be used from any thread. Models, cancel tokens and errors take
 *   any number of calls at once; on the others a colliding call returns REMASK_STATUS_BUSY at once.
 * Structs
 *   that begin with `struct_size` are filled by their `init` with `sizeof` and passed by pointer. They only
 *   grow at the end. Zero is the default of every count, and NULL of every pointer.
 * Texts
 *   go in as pointer and length, UTF-8, and come out into the caller's buffer without a terminating NUL.
 * Nothing
 *   is printed, no signal handler set, no thread left behind; there is no init and no shutdown. */


#ifndef REMASK_H
#define REMASK_H

#include <stddef.h>
#include <stdint.h>

#if defined(REMASK_STATIC)
#define REMASK_API
#elif defined(_WIN32)
#define REMASK_API __declspec(dllimport)
#else
#define REMASK_API __attribute__((visibility("default")))
#endif

#if defined(__GNUC__) || defined(__clang__)
#define REMASK_MUST_USE __attribute__((warn_unused_result))
#define REMASK_DEPRECATED(note) __attribute__((deprecated(note)))
#elif defined(_MSC_VER)
#define REMASK_MUST_USE _Check_return_
#define REMASK_DEPRECATED(note) __declspec(deprecated(note))
#else
#define REMASK_MUST_USE
#define REMASK_DEPRECATED(note)
#endif

/// Length argument that means "up to the terminating NUL". Allowed for every text that goes in.
#define REMASK_NUL_TERMINATED SIZE_MAX



/// ABI that this header describes. Goes up when a released declaration changes or goes away, never when
/// one is added; equals the number in the shared library's name.
#define REMASK_ABI_VERSION 0

/// What a callback returns to go on.
#define REMASK_CONTINUE 0

/// What a callback returns to stop; the call then returns `REMASK_STATUS_CANCELLED`.
#define REMASK_STOP 1

/// Details for a developer.
#define REMASK_LOG_DEBUG 1

/// What was decided and why.
#define REMASK_LOG_INFO 2

/// Something is odd; the call goes on.
#define REMASK_LOG_WARN 3

/// A fault; where it ends a call, the call's error says the same.
#define REMASK_LOG_ERROR 4

/// Read the file into memory instead of mapping it: safe from later changes of the file.
#define REMASK_LOAD_READ (1 << 0)

/// Special tokens that the text spells become their ids. For templates and texts that are trusted;
/// without it they stay text, as what comes from a user must.
#define REMASK_ENCODE_SPECIAL (1 << 0)

/// Begin with the begin-of-text token where the model asks for one.
#define REMASK_ENCODE_BOS (1 << 1)

/// Write special tokens out, the mask token too. Without it they are left out.
#define REMASK_DECODE_SPECIAL (1 << 0)

/// Bits of `remask_model_token_attr`: text.
#define REMASK_TOKEN_NORMAL (1 << 0)

/// Unknown text.
#define REMASK_TOKEN_UNKNOWN (1 << 1)

/// A mark such as end-of-text; never made from a user's text.
#define REMASK_TOKEN_CONTROL (1 << 2)

/// Text that is one token wherever it stands.
#define REMASK_TOKEN_USER_DEFINED (1 << 3)

/// A hole in the vocabulary.
#define REMASK_TOKEN_UNUSED (1 << 4)

/// One byte.
#define REMASK_TOKEN_BYTE (1 << 5)

/// End after the last message, and not where the assistant's answer begins.
#define REMASK_CHAT_CLOSED (1 << 0)

/// State of a slot: given by the caller; never changed by a run.
#define REMASK_SLOT_FIXED 0

/// To be filled; holds the mask token.
#define REMASK_SLOT_MASKED 1

/// Filled by a run.
#define REMASK_SLOT_FILLED 2

/// End when an end token stands in the response and everything before it is filled. What comes before it
/// is the same as without.
#define REMASK_GENERATE_STOP_AT_EOS (1 << 0)

/// Never predict the end-of-text token (the reference's logits_eos_inf).
#define REMASK_GENERATE_WITHOUT_EOS (1 << 1)

/// Commit end tokens last (the reference's confidence_eos_eot_inf).
#define REMASK_GENERATE_EOS_LAST (1 << 2)

/// Compute steps that commit nothing, as the reference does. The text is the same.
#define REMASK_GENERATE_IDLE_STEPS (1 << 3)

/// Fill a block at once when its answer has settled; see `early_commit`. Approximate.
#define REMASK_GENERATE_EARLY_COMMIT (1 << 4)

/// Replace an output that exists.
#define REMASK_WRITE_OVERWRITE (1 << 0)

/// Take tensors that are quantized already, losing twice.
#define REMASK_WRITE_REQUANTIZE (1 << 1)

/// Leave the mix's rules out: its base type for all matrices.
#define REMASK_WRITE_PURE (1 << 2)

/// A flag that stops calls it was given to: within a node of the network on a CPU, else before the next
/// step. The calls keep what they need of it: it can be freed at any time.
typedef struct remask_cancel remask_cancel;

/// A row of tokens, some given and some masked.
///
/// A run shows its progress on its canvases: between steps they can be read, and calls that change them
/// return `REMASK_STATUS_BUSY` until the run is freed.
typedef struct remask_canvas remask_canvas;

/// Turns tokens into text as they come; bytes of a character that is not whole yet are held back.
typedef struct remask_decoder remask_decoder;

/// Details of a failed call. Immutable, owned by the caller, not tied to a thread.
typedef struct remask_error remask_error;

/// A loaded model: weights, tokenizer, chat template, metadata. Immutable: share it freely between
/// threads and sessions.
typedef struct remask_model remask_model;

/// A generation under way. Uses its session until freed.
typedef struct remask_run remask_run;

/// One stream of work on one model: threads, compute buffers, graphs. Does one thing at a time; a
/// colliding call returns `REMASK_STATUS_BUSY` at once.
typedef struct remask_session remask_session;

/// Result of a call: `REMASK_STATUS_OK` or the reason it failed. A plain integer, so that a code of a
/// newer library is safe to receive.
typedef int32_t remask_status;

/// Receives one log line: UTF-8, NUL-terminated, without a newline or control characters. Called from
/// any thread, from several at once; must not call remask.
typedef void (*remask_log_fn)(int32_t level, const char *message, void *user_data);

/// Frees the `user_data` of a callback, or a buffer, that the library kept. Called exactly once, from
/// any thread; must not call remask.
typedef void (*remask_drop_fn)(void *user_data);

/// What a device is.
typedef int32_t remask_device_kind;

/// Facts about a device. Begin with `remask_device_init`.
typedef struct remask_device {
  /// Set by `remask_device_init`.
  uint32_t struct_size;
  /// One of `REMASK_DEVICE_*`.
  remask_device_kind kind;
  /// Free memory in bytes, as the driver says; 0 if unknown.
  uint64_t memory_free;
  /// Total memory in bytes; 0 if unknown.
  uint64_t memory_total;
  /// Name to choose it by, such as "CUDA0"; UTF-8, NUL-terminated, cut to fit.
  char name[64];
  /// The maker's name for it; UTF-8, NUL-terminated, cut to fit.
  char description[128];
} remask_device;

/// Facts about a model. Begin with `remask_model_info_init`.
typedef struct remask_model_info {
  /// Set by `remask_model_info_init`.
  uint32_t struct_size;
  /// 1 if the model has a chat template, else 0.
  uint32_t has_chat_template;
  /// Longest canvas that the model was trained for, in slots.
  uint32_t n_ctx;
  /// Tokens in the vocabulary: columns of the logits.
  uint32_t n_vocab;
  /// Size of a token's hidden state.
  uint32_t n_embd;
  /// Layers.
  uint32_t n_layer;
  /// Query heads.
  uint32_t n_head;
  /// Key and value heads.
  uint32_t n_head_kv;
  /// Hidden size of the feed-forward network.
  uint32_t n_ff;
  /// Token of a masked slot.
  int32_t mask_token;
  /// Token that begins a text; -1 if none.
  int32_t bos_token;
  /// Token that ends a text; -1 if none.
  int32_t eos_token;
  /// Token that ends a turn; -1 if none.
  int32_t eot_token;
  /// Token that pads; -1 if none.
  int32_t pad_token;
  /// Weights in all, as a count.
  uint64_t n_params;
  /// Weights in all, in bytes.
  uint64_t n_bytes;
  /// Architecture, such as "llada"; NUL-terminated, lives as long as the model's handle.
  const char *arch;
} remask_model_info;

/// When weights are checked to be finite numbers.
typedef int32_t remask_verify;

/// Hears how far a long call is: `done` of `total` bytes. Called from the calling thread. Returns
/// `REMASK_CONTINUE`, or `REMASK_STOP` to cancel.
typedef int32_t (*remask_progress_fn)(uint64_t done, uint64_t total, void *user_data);

/// What several devices divide between them.
typedef int32_t remask_split_mode;

/// How to load a model. Begin with `remask_load_params_init`. All is borrowed for the call.
typedef struct remask_load_params {
  /// Set by `remask_load_params_init`.
  uint32_t struct_size;
  /// Bit set of `REMASK_LOAD_*`.
  uint32_t flags;
  /// One of `REMASK_VERIFY_*`.
  remask_verify verify;
  /// So many layers on the device, the last ones; 0 for as many as fit. More than fit are refused.
  uint32_t n_gpu_layers;
  /// Name of the device for the layers, as `remask_device_get` gives it, NUL-terminated, or several with
  /// commas between them; rpc://HOST:PORT of a worker, in builds that know other machines; "cpu" for the
  /// processor alone; NULL for the GPU with the most free memory (all GPUs where it does not hold the
  /// model), or the processor where there is none.
  const char *device;
  /// Path of a `tokenizer.json` to use in place of what the file says, NUL-terminated; NULL for none.
  const char *tokenizer_path;
  /// Hears of bytes that are read into memory and of those that are copied to devices (a mapped file on
  /// the processor has neither) and can stop it; NULL for none.
  remask_progress_fn on_progress;
  /// Goes to `on_progress` untouched.
  void *user_data;
  /// Stops the loading when set; NULL for none.
  const struct remask_cancel *cancel;
  /// Shares of the layers, one for each device in the order of `device`, 0 or more each; NULL to divide by
  /// free memory. Shares that do not fit are refused.
  const double *split;
  /// How many shares there are.
  size_t n_split;
  /// One of `REMASK_SPLIT_*`; with REMASK_SPLIT_TENSORS the shares are of each tensor, above 0 each.
  remask_split_mode split_mode;
  /// 0.
  uint32_t reserved;
} remask_load_params;

/// Reads `n` bytes at `offset` into `buffer`. Returns 0, or another number if it cannot.
typedef int32_t (*remask_read_at_fn)(uint64_t offset, void *buffer, size_t n, void *user_data);

/// A file behind a callback: an asset of a package, a resource of a bundle. Begin with
/// `remask_reader_init`.
typedef struct remask_reader {
  /// Set by `remask_reader_init`.
  uint32_t struct_size;
  /// Bit set, 0 for now.
  uint32_t flags;
  /// Size of the file in bytes.
  uint64_t n_bytes;
  /// Reads a part. Called from the calling thread, during the call only, in rising order.
  remask_read_at_fn read_at;
  /// Goes to `read_at` untouched.
  void *user_data;
} remask_reader;

/// What running a model takes. Begin with `remask_estimate_init`.
typedef struct remask_estimate {
  /// Set by `remask_estimate_init`.
  uint32_t struct_size;
  /// Longest canvas that the model was trained for, in slots.
  uint32_t n_ctx;
  /// Bytes of weights. Mapped from a file, they are the page cache's, shared between processes.
  uint64_t weights;
  /// Bytes that a session computes in, for a canvas of the size asked about.
  uint64_t session;
} remask_estimate;

/// A piece of UTF-8 text, borrowed.
typedef struct remask_text {
  /// The bytes; NULL only where `len` is 0.
  const char *data;
  /// Their number, or `REMASK_NUL_TERMINATED`.
  size_t len;
} remask_text;

/// One turn of a conversation, borrowed.
typedef struct remask_message {
  /// Who speaks, such as "system", "user" or "assistant".
  struct remask_text role;
  /// What is said.
  struct remask_text content;
} remask_message;

/// Which attention is used.
typedef int32_t remask_flash;

/// How a session computes. Begin with `remask_session_params_init`.
typedef struct remask_session_params {
  /// Set by `remask_session_params_init`.
  uint32_t struct_size;
  /// Threads on the CPU; 0 for one per physical core, per fast one where there are two kinds.
  /// More than the machine has are not made.
  uint32_t n_threads;
  /// One of `REMASK_FLASH_*`.
  remask_flash flash;
  /// Longest canvas, in slots; 0 for the length that the model was trained for.
  uint32_t max_canvas;
} remask_session_params;

/// What a session has done since it was made. Begin with `remask_session_stats_init`.
typedef struct remask_session_stats {
  /// Set by `remask_session_stats_init`.
  uint32_t struct_size;
  /// Threads in use on the CPU.
  uint32_t n_threads;
  /// Bytes of memory that it computes in; 0 before its first run.
  uint64_t n_bytes;
  /// Runs begun.
  uint64_t n_runs;
  /// Steps done in them.
  uint64_t n_steps;
  /// Function evaluations: forward passes of one canvas, in runs, scores, logits and embeddings.
  uint64_t nfe;
  /// Time spent in them, in microseconds.
  uint64_t elapsed_us;
} remask_session_stats;

/// By what candidates are ranked; the best are committed.
typedef int32_t remask_order;

/// How many candidates a step commits.
typedef int32_t remask_commit;

/// How much speed for how much change. Rules that the caller leaves at zero are those of the preset.
typedef int32_t remask_speed;

/// What is kept from step to step. All but `REMASK_CACHE_NONE` are approximate.
typedef int32_t remask_cache;

/// How kept keys and values are stored.
typedef int32_t remask_cache_type;

/// A published version of Fast-dLLM whose loop is followed where it differs.
typedef int32_t remask_fast_dllm;

/// How to generate. Begin with `remask_generate_params_init`, which sets the reference's defaults: greedy,
/// low confidence, one token per step, one block. All is borrowed for the call.
///
/// What a model or a combination does not support is refused, never ignored.
typedef struct remask_generate_params {
  /// Set by `remask_generate_params_init`.
  uint32_t struct_size;
  /// Bit set of `REMASK_GENERATE_*`.
  uint32_t flags;
  /// Steps over all blocks; 0 for one per masked slot.
  uint32_t n_steps;
  /// Slots per block, filled one after the other; 0 for one block.
  uint32_t block_length;
  /// One of `REMASK_ORDER_*`.
  remask_order order;
  /// One of `REMASK_COMMIT_*`.
  remask_commit commit;
  /// End-of-text token; -1 for the model's.
  int32_t eos_token;
  /// End-of-turn token; -1 for the model's.
  int32_t eot_token;
  /// Slot where the response begins; -1 for the masked tail of the canvas.
  int64_t response_start;
  /// Seed of all random numbers.
  uint64_t seed;
  /// What `commit` compares with; 0 with `REMASK_COMMIT_QUOTA`.
  double commit_value;
  /// 0 takes the likeliest token; above, tokens are drawn from softmax(logits / temperature).
  double temperature;
  /// Draw from the smallest set of likeliest tokens with this probability; 0 or 1 is off.
  double top_p;
  /// Draw from the likeliest so many tokens; 0 is off.
  uint64_t top_k;
  /// Divides positive and multiplies negative logits of tokens that stand on the canvas; 0 or 1 is off.
  double repetition_penalty;
  /// Classifier-free guidance; 0 is off. Doubles the work.
  double guidance;
  /// Tokens that are never predicted; NULL where `n_suppress` is 0.
  const int32_t *suppress;
  /// Their number.
  size_t n_suppress;
  /// The response ends before the first of these texts; NULL where `n_stop` is 0.
  const struct remask_text *stop;
  /// Their number.
  size_t n_stop;
  /// A seed for each canvas, in place of `seed`; NULL where `n_seeds` is 0.
  const uint64_t *seeds;
  /// Their number: 0 or that of the canvases.
  size_t n_seeds;
  /// Stops the run when set; NULL for none. The run keeps what it needs of it.
  const struct remask_cancel *cancel;
  /// One of `REMASK_SPEED_*`.
  remask_speed speed;
  /// One of `REMASK_CACHE_*`.
  remask_cache cache;
  /// One of `REMASK_CACHE_TYPE_*`.
  remask_cache_type cache_type;
  /// One of `REMASK_FAST_DLLM_*`.
  remask_fast_dllm fast_dllm;
  /// With a prefix or dual cache, steps after which everything is computed again; 0 is at the start of a
  /// block only.
  uint32_t cache_refresh;
  /// With the feature cache, steps between full passes; 0 for 25.
  uint32_t cache_prompt_interval;
  /// With the feature cache, steps between passes over the whole response; 0 for 7.
  uint32_t cache_response_interval;
  /// Of `REMASK_COMMIT_NEIGHBOURS`, in slots; 0 for 4.
  uint32_t commit_radius;
  /// Masked slots after the block that are shown to the model; 0 for all. Approximate.
  uint64_t suffix_window;
  /// With the feature cache, the share of the response that is computed at other steps; 0 for 0.25.
  double cache_update;
  /// Of `REMASK_COMMIT_NEIGHBOURS`; 0 for 0.75.
  double commit_relaxed;
  /// With `REMASK_GENERATE_EARLY_COMMIT`, the lead in logits that counts as settled in each third of a
  /// block; all 0 for 7.5, 5 and 2.5.
  double early_commit[3];
} remask_generate_params;

/// One slot that a step filled.
typedef struct remask_change {
  /// Position in the canvas.
  uint32_t slot;
  /// The token it holds now.
  int32_t token;
  /// What it was ranked by: a probability for `REMASK_ORDER_LOW_CONFIDENCE`; see `REMASK_ORDER_*`.
  float confidence;
  /// 0 for now.
  uint32_t reserved;
} remask_change;

/// What one step did to one canvas. Begin with `remask_step_init`. Arrays belong to the run and are valid
/// until its next step and its end.
typedef struct remask_step {
  /// Set by `remask_step_init`.
  uint32_t struct_size;
  /// Which of the run's canvases this is about, from 0.
  uint32_t i_canvas;
  /// Number of the run's canvases.
  uint32_t n_canvases;
  /// 1 when all canvases are finished, else 0.
  uint32_t done;
  /// 1 when this canvas is finished, else 0.
  uint32_t canvas_done;
  /// 1 when an end token or stop text has settled where this response ends, else 0.
  uint32_t ended;
  /// Steps of the plan that are behind this canvas, this one counted.
  uint32_t i_step;
  /// Steps of the plan.
  uint32_t n_steps;
  /// First slot of the block at work.
  uint32_t block_begin;
  /// End of that block.
  uint32_t block_end;
  /// Slots still masked.
  uint32_t n_masked;
  /// Slots that hold the prompt and the response: all, or fewer where `ended` is 1.
  uint32_t end;
  /// Function evaluations so far, over all canvases: forward passes of one canvas.
  uint64_t nfe;
  /// Time of this step, in microseconds, over all canvases.
  uint64_t step_us;
  /// Time of all steps so far, in microseconds.
  uint64_t elapsed_us;
  /// Slots that this step filled, the surest first.
  const struct remask_change *changed;
  /// Their number.
  size_t n_changed;
  /// Token of every slot.
  const int32_t *tokens;
  /// State of every slot (`REMASK_SLOT_*`).
  const uint8_t *slots;
  /// Number of slots.
  size_t n_slots;
} remask_step;

/// Called after each step, once for every canvas that the step worked on; `step` lives for the call.
/// Returns `REMASK_CONTINUE` or `REMASK_STOP`. May call remask, but not the session and canvases at work,
/// which are busy (canvases can be read).
typedef int32_t (*remask_step_fn)(const struct remask_step *step, void *user_data);

/// How a log-likelihood is estimated.
typedef int32_t remask_score_method;

/// How to score. Begin with `remask_score_params_init`.
typedef struct remask_score_params {
  /// Set by `remask_score_params_init`.
  uint32_t struct_size;
  /// One of `REMASK_SCORE_*`.
  remask_score_method method;
  /// Masked canvases drawn for the bound; 0 for 128.
  uint32_t n_samples;
  /// Of them, how many share one draw and cover the mask ratios evenly; 0 for 16, or all if fewer.
  uint32_t n_batch;
  /// Seed of the masks.
  uint64_t seed;
  /// Classifier-free guidance; 0 is off. Doubles the work. Not for `REMASK_SCORE_PSEUDO`.
  double guidance;
  /// Stops the work when set; NULL for none.
  const struct remask_cancel *cancel;
} remask_score_params;

/// A score. Begin with `remask_score_init`.
typedef struct remask_score {
  /// Set by `remask_score_init`.
  uint32_t struct_size;
  /// Tokens scored.
  uint32_t n_tokens;
  /// Log-likelihood of all of them together, in nats.
  double log_likelihood;
  /// Standard error of the estimate, in nats; 0 for an exact method, NaN for a single minibatch.
  double standard_error;
  /// Function evaluations: forward passes.
  uint64_t nfe;
} remask_score;

/// A list of token ids, borrowed.
typedef struct remask_tokens {
  /// The ids; NULL only where `len` is 0.
  const int32_t *data;
  /// Their number.
  size_t len;
} remask_tokens;

/// How hidden states of a text become one.
typedef int32_t remask_pooling;

/// How to write a model file. Begin with `remask_write_params_init`. All is borrowed for the call.
typedef struct remask_write_params {
  /// Set by `remask_write_params_init`.
  uint32_t struct_size;
  /// Bit set of `REMASK_WRITE_*`.
  uint32_t flags;
  /// Worker threads; 0 for one per physical core.
  uint32_t n_threads;
  /// 0 for now.
  uint32_t reserved;
  /// Type or mix of the matrices, such as "q4_k_m" or "f16", NUL-terminated; NULL for "f16".
  const char *type_name;
  /// Path of an importance matrix, NUL-terminated; NULL for none.
  const char *imatrix_path;
  /// Types by tensor name, each `PATTERN=TYPE`; NULL where `n_overrides` is 0.
  const struct remask_text *overrides;
  /// Their number.
  size_t n_overrides;
  /// Name of the model for its metadata, NUL-terminated; NULL for the folder's. For converting only.
  const char *name;
  /// Hears how far it is, in bytes written; NULL for none.
  remask_progress_fn on_progress;
  /// Goes to `on_progress` untouched.
  void *user_data;
  /// Stops the work when set; NULL for none.
  const struct remask_cancel *cancel;
} remask_write_params;

/// The call did what it says.
#define REMASK_STATUS_OK 0

/// An argument or option is out of range, NULL where it must not be, or options contradict each other.
#define REMASK_STATUS_INVALID_ARGUMENT 1

/// The operating system refused to open, read, map or write a file, or a reader callback failed.
#define REMASK_STATUS_IO 2

/// A file is not what its format demands.
#define REMASK_STATUS_FORMAT 3

/// A size in a file or call is over a stated limit.
#define REMASK_STATUS_LIMIT 4

/// Well-formed, but of a kind that this build or version cannot serve.
#define REMASK_STATUS_UNSUPPORTED 5

/// The file's hyper-parameters, tensors or shapes do not make a model.
#define REMASK_STATUS_MODEL 6

/// The vocabulary or tokenizer does not hold together, or cannot spell a text.
#define REMASK_STATUS_TOKENIZER 7

/// The model has no chat template, or it refuses the messages, or its rendering was stopped.
#define REMASK_STATUS_TEMPLATE 8

/// A weight or a result is not a finite number.
#define REMASK_STATUS_NUMERIC 9

/// Memory, threads or another resource of the machine ran out.
#define REMASK_STATUS_RESOURCE 10

/// A device is missing, or its driver reported a fault.
#define REMASK_STATUS_DEVICE 11

/// A cancel token or a callback stopped the call. What was filled so far stays on the canvases.
#define REMASK_STATUS_CANCELLED 12

/// Another call or run is at work on the same handle. Nothing was changed; try again later.
#define REMASK_STATUS_BUSY 13

/// Training or evaluation text is not as it should be.
#define REMASK_STATUS_DATA 14

/// A fault in this library; please report it with the error's message.
#define REMASK_STATUS_INTERNAL 15

/// The buffer is too small. The needed length was written and nothing else was changed.
#define REMASK_STATUS_BUFFER_TOO_SMALL 16

/// There is no entry of that name or index.
#define REMASK_STATUS_NOT_FOUND 17

/// The host's processor.
#define REMASK_DEVICE_CPU 0

/// A GPU with memory of its own.
#define REMASK_DEVICE_GPU 1

/// A GPU that shares the host's memory.
#define REMASK_DEVICE_IGPU 2

/// An accelerator that works beside the processor.
#define REMASK_DEVICE_ACCEL 3

/// Once, before the model's first run.
#define REMASK_VERIFY_FIRST_USE 0

/// When the model is loaded.
#define REMASK_VERIFY_LOAD 1

/// Not at all: for files that were checked before.
#define REMASK_VERIFY_NEVER 2

/// Layers: each device has some of them whole.
#define REMASK_SPLIT_LAYERS 0

/// Tensors: each device has a part of every layer. For two or more GPUs that one backend drives, which take all layers.
#define REMASK_SPLIT_TENSORS 1

/// Flash attention for canvases of 1024 slots or more.
#define REMASK_FLASH_AUTO 0

/// Always.
#define REMASK_FLASH_ON 1

/// Never.
#define REMASK_FLASH_OFF 2

/// Probability of the candidate under the model: the reference's low_confidence.
#define REMASK_ORDER_LOW_CONFIDENCE 0

/// A uniform number per slot: the reference's random.
#define REMASK_ORDER_RANDOM 1

/// Probability of the best token less that of the second.
#define REMASK_ORDER_MARGIN 2

/// Negative entropy of the distribution.
#define REMASK_ORDER_ENTROPY 3

/// The leftmost slots first.
#define REMASK_ORDER_LEFT_TO_RIGHT 4

/// Every masked slot with probability 1 - s/t, for steps t > s evenly from 1 to 0.001.
#define REMASK_ORDER_ORIGIN 5

/// The masks of a block divided over its steps.
#define REMASK_COMMIT_QUOTA 0

/// All whose probability is at least `commit_value`, and always the best.
#define REMASK_COMMIT_THRESHOLD 1

/// The n best, as long as the n-th has a probability of at least 1 - commit_value/(n + 1), and always the
/// best.
#define REMASK_COMMIT_FACTOR 2

/// The most whose entropies in nats, the largest left out, sum to at most `commit_value`; always the best.
#define REMASK_COMMIT_ENTROPY_BOUND 3

/// All that are surer than `commit_value`, and within `commit_radius` slots of them what is surer than
/// `commit_relaxed`; always the best. Zeros are the published settings: 0.9, 4, 0.75.
#define REMASK_COMMIT_NEIGHBOURS 4

/// Nothing is approximate.
#define REMASK_SPEED_EXACT 0

/// The fastest rules that leave nine texts in ten as they are.
#define REMASK_SPEED_BALANCED 1

/// Faster still; answers change. Only for responses at the end of the canvas.
#define REMASK_SPEED_FAST 2

/// Every step computes every slot.
#define REMASK_CACHE_NONE 0

/// After a block's first step, from the block's start to the end of the canvas.
#define REMASK_CACHE_PREFIX 1

/// After a block's first step, the block alone.
#define REMASK_CACHE_DUAL 2

/// Now and then everything, at other steps the slots whose values changed most.
#define REMASK_CACHE_FEATURE 3

/// As they are computed.
#define REMASK_CACHE_TYPE_F32 0

/// Half the memory.
#define REMASK_CACHE_TYPE_F16 1

/// A quarter of it.
#define REMASK_CACHE_TYPE_Q8_0 2

/// None: a block ends when it is full.
#define REMASK_FAST_DLLM_NONE 0

/// As of 2025-06-27.
#define REMASK_FAST_DLLM_JUN2025 1

/// As of 2026-05-30.
#define REMASK_FAST_DLLM_MAIN 2

/// Monte Carlo estimate of the lower bound (LLaDA, equation 6), with the reference's masks.
#define REMASK_SCORE_BOUND 0

/// Sum over the answer of the log-probability of each token with only that token masked. One pass per
/// token; no likelihood, but exact and good for comparing.
#define REMASK_SCORE_PSEUDO 1

/// One per slot.
#define REMASK_POOLING_NONE 0

/// Their mean.
#define REMASK_POOLING_MEAN 1

/// That of the last slot.
#define REMASK_POOLING_LAST 2

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/// Version of the library, such as "1.4.2". Static.
REMASK_API const char *remask_version(void);

/// ABI of the library; compare with `REMASK_ABI_VERSION`.
REMASK_API uint32_t remask_abi_version(void);

/// Name of a status, such as "invalid argument". Static; never NULL, "unknown" for other numbers.
REMASK_API const char *remask_status_name(remask_status status);

/// Status that the failed call returned; `REMASK_STATUS_OK` for NULL.
REMASK_API remask_status remask_error_status(const struct remask_error *error);

/// Message in English, UTF-8, one line without control characters. Lives as long as `error`; never
/// NULL, "" for NULL.
REMASK_API const char *remask_error_message(const struct remask_error *error);

/// Frees an error object; NULL is fine.
REMASK_API void remask_error_free(struct remask_error *error);

/// Sends log lines of `min_level` (a `REMASK_LOG_*`; 0 is all) and above to `log`; NULL turns logging
/// off, as it is at the start.
///
/// One for the process, because ggml's is. May be called at any time from any thread. `drop`, if not
/// NULL, is called with `user_data` when the callback was replaced and no thread is in it any more.
REMASK_API void remask_log_set(remask_log_fn log, int32_t min_level, void *user_data, remask_drop_fn drop);

/// Prepares `device`. Pass `sizeof(remask_device)`.
REMASK_API void remask_device_init(struct remask_device *device, size_t struct_size);

/// Loads backends from the files `libggml-*.so` in a folder: of each kind that is not loaded yet the best
/// for this machine. The log says which, and why others were not. A library that finds its backends at run
/// time looks by itself too when a device is first needed, in the folders that the environment variable
/// REMASK_BACKENDS names and beside itself; what a call before that loads goes first. A library with its
/// backends inside fails with `REMASK_STATUS_UNSUPPORTED`.
///
/// @param folder     UTF-8 path; `folder_len` bytes, or REMASK_NUL_TERMINATED.
/// @param out_loaded Receives how many were loaded, which may be 0; NULL if nobody wants to know.
REMASK_API
REMASK_MUST_USE
remask_status remask_backends_load(const char *folder,
                                   size_t folder_len,
                                   size_t *out_loaded,
                                   struct remask_error **error);

/// Number of devices of this build and machine. At least 1, the processor; 0 when a driver fails.
REMASK_API size_t remask_device_count(void);

/// Facts about device `index`, asked anew. Fails with `REMASK_STATUS_NOT_FOUND` beyond the last.
REMASK_API
REMASK_MUST_USE
remask_status remask_device_get(size_t index,
                                struct remask_device *out_device,
                                struct remask_error **error);

/// Makes a token that is not set. Never NULL.
REMASK_API REMASK_MUST_USE struct remask_cancel *remask_cancel_new(void);

/// Stops every call that was given this token; NULL is fine. One atomic store: allowed at any time from
/// any thread, and from a signal handler.
REMASK_API void remask_cancel_set(const struct remask_cancel *cancel);

/// Makes the token usable again; NULL is fine. As `remask_cancel_set`.
REMASK_API void remask_cancel_reset(const struct remask_cancel *cancel);

/// 1 if the token is set, else 0; 0 for NULL. As `remask_cancel_set`.
REMASK_API int32_t remask_cancel_is_set(const struct remask_cancel *cancel);

/// Gives a token back; NULL is fine. Not from a signal handler.
REMASK_API void remask_cancel_free(struct remask_cancel *cancel);

/// Gives a model back; NULL is fine. Whatever was made from it stays valid and keeps what it needs.
REMASK_API void remask_model_free(struct remask_model *model);

/// Prepares `info`. Pass `sizeof(remask_model_info)`.
REMASK_API void remask_model_info_init(struct remask_model_info *info, size_t struct_size);

/// Facts about a model.
REMASK_API
REMASK_MUST_USE
remask_status remask_model_get_info(const struct remask_model *model,
                                    struct remask_model_info *out_info,
                                    struct remask_error **error);

/// Number of metadata entries; 0 for NULL.
REMASK_API size_t remask_model_meta_count(const struct remask_model *model);

/// Key of metadata entry `index`, as text, in the manner of `remask_model_decode`. Fails with
/// `REMASK_STATUS_NOT_FOUND` beyond the last.
REMASK_API
REMASK_MUST_USE
remask_status remask_model_meta_key(const struct remask_model *model,
                                    size_t index,
                                    char *text,
                                    size_t capacity,
                                    size_t *len,
                                    struct remask_error **error);

/// Value of a metadata entry in the manner of `remask_model_decode`: text as it is, numbers in decimal,
/// `true` and `false`, arrays as JSON. Fails with `REMASK_STATUS_NOT_FOUND` for an unknown key.
REMASK_API
REMASK_MUST_USE
remask_status remask_model_meta_value(const struct remask_model *model,
                                      const char *key,
                                      size_t key_len,
                                      char *text,
                                      size_t capacity,
                                      size_t *len,
                                      struct remask_error **error);

/// Sets `params` to the defaults. Pass `sizeof(remask_load_params)`.
REMASK_API void remask_load_params_init(struct remask_load_params *params, size_t struct_size);

/// Prepares `reader`. Pass `sizeof(remask_reader)`.
REMASK_API void remask_reader_init(struct remask_reader *reader, size_t struct_size);

/// Prepares `estimate`. Pass `sizeof(remask_estimate)`.
REMASK_API void remask_estimate_init(struct remask_estimate *estimate, size_t struct_size);

/// Loads a model file; of a split one the first part, with the others beside it.
///
/// @param path      UTF-8 path; `path_len` bytes, or REMASK_NUL_TERMINATED.
/// @param params    NULL for the defaults.
/// @param out_model Receives an owned handle; free it with `remask_model_free`.
REMASK_API
REMASK_MUST_USE
remask_status remask_model_load(const char *path,
                                size_t path_len,
                                const struct remask_load_params *params,
                                struct remask_model **out_model,
                                struct remask_error **error);

/// Loads a model from memory that holds a whole GGUF file.
///
/// @param drop      NULL: the bytes are copied, and the caller's may go after the call. Else they are
///                  used where they lie, must not change, and `drop` is called once with `user_data`
///                  when nobody needs them any more, also when the call fails. Bytes that do not begin
///                  at a multiple of 32 are copied in either case.
/// @param params    As for `remask_model_load`; REMASK_LOAD_READ has no meaning here.
REMASK_API
REMASK_MUST_USE
remask_status remask_model_load_memory(const void *bytes,
                                       size_t n_bytes,
                                       remask_drop_fn drop,
                                       void *user_data,
                                       const struct remask_load_params *params,
                                       struct remask_model **out_model,
                                       struct remask_error **error);

/// Loads a model through a callback, into memory. `on_progress` hears of the reading.
///
/// @param params    As for `remask_model_load`; REMASK_LOAD_READ has no meaning here.
REMASK_API
REMASK_MUST_USE
remask_status remask_model_load_reader(const struct remask_reader *reader,
                                       const struct remask_load_params *params,
                                       struct remask_model **out_model,
                                       struct remask_error **error);

/// What the model in a file would take, from the file's header alone.
///
/// @param n_slots   Slots of the canvas, prompt and response together.
/// @param n_masked  Those of them that are to be filled.
REMASK_API
REMASK_MUST_USE
remask_status remask_estimate_file(const char *path,
                                   size_t path_len,
                                   size_t n_slots,
                                   size_t n_masked,
                                   struct remask_estimate *out_estimate,
                                   struct remask_error **error);

/// As `remask_estimate_file`, for a file in memory.
REMASK_API
REMASK_MUST_USE
remask_status remask_estimate_memory(const void *bytes,
                                     size_t n_bytes,
                                     size_t n_slots,
                                     size_t n_masked,
                                     struct remask_estimate *out_estimate,
                                     struct remask_error **error);

/// As `remask_estimate_file`, for a model that is loaded.
REMASK_API
REMASK_MUST_USE
remask_status remask_estimate_model(const struct remask_model *model,
                                    size_t n_slots,
                                    size_t n_masked,
                                    struct remask_estimate *out_estimate,
                                    struct remask_error **error);

/// Turns text into tokens.
///
/// With too small a buffer, fails with REMASK_STATUS_BUFFER_TOO_SMALL, copies nothing and writes the
/// needed number to `len`; on success `len` receives the number copied.
///
/// @param text      UTF-8; `text_len` bytes, or REMASK_NUL_TERMINATED.
/// @param flags     Bit set of `REMASK_ENCODE_*`.
/// @param tokens    Receives the ids; NULL is fine where `capacity` is 0.
/// @param capacity  Room in `tokens`, in ids.
/// @param len       Receives the number of ids.
REMASK_API
REMASK_MUST_USE
remask_status remask_model_encode(const struct remask_model *model,
                                  const char *text,
                                  size_t text_len,
                                  uint32_t flags,
                                  int32_t *tokens,
                                  size_t capacity,
                                  size_t *len,
                                  struct remask_error **error);

/// Turns tokens into UTF-8 text, without a terminating NUL, in the manner of `remask_model_encode`:
/// `len` counts bytes. Bytes that are no whole character become U+FFFD; masked slots give nothing.
///
/// @param flags     Bit set of `REMASK_DECODE_*`.
/// @param text      Receives the bytes; NULL is fine where `capacity` is 0.
/// @param capacity  Room in `text`, in bytes.
REMASK_API
REMASK_MUST_USE
remask_status remask_model_decode(const struct remask_model *model,
                                  const int32_t *tokens,
                                  size_t n_tokens,
                                  uint32_t flags,
                                  char *text,
                                  size_t capacity,
                                  size_t *len,
                                  struct remask_error **error);

/// Bytes that one token stands for, special ones by their spelling, in the manner of
/// `remask_model_decode`; not always whole UTF-8. Fails with `REMASK_STATUS_NOT_FOUND` outside the
/// vocabulary.
REMASK_API
REMASK_MUST_USE
remask_status remask_model_token_text(const struct remask_model *model,
                                      int32_t token,
                                      char *text,
                                      size_t capacity,
                                      size_t *len,
                                      struct remask_error **error);

/// What a token is for: bit set of `REMASK_TOKEN_*`; 0 outside the vocabulary and for NULL.
REMASK_API uint32_t remask_model_token_attr(const struct remask_model *model, int32_t token);

/// Id of the token with this spelling, as the vocabulary writes it; -1 if there is none.
REMASK_API
int32_t remask_model_token_find(const struct remask_model *model,
                                const char *text,
                                size_t text_len);

/// Makes a decoder. It keeps what it needs of the model.
///
/// @param flags     Bit set of `REMASK_DECODE_*`.
REMASK_API
REMASK_MUST_USE
remask_status remask_decoder_new(const struct remask_model *model,
                                 uint32_t flags,
                                 struct remask_decoder **out_decoder,
                                 struct remask_error **error);

/// The text that `tokens` add, as far as it is certain, in the manner of `remask_model_decode`. With too
/// small a buffer nothing is taken: push the same tokens again.
REMASK_API
REMASK_MUST_USE
remask_status remask_decoder_push(struct remask_decoder *decoder,
                                  const int32_t *tokens,
                                  size_t n_tokens,
                                  char *text,
                                  size_t capacity,
                                  size_t *len,
                                  struct remask_error **error);

/// What is still held back, in the manner of `remask_model_decode`; U+FFFD for a character that never
/// became whole. The decoder is then as new.
REMASK_API
REMASK_MUST_USE
remask_status remask_decoder_finish(struct remask_decoder *decoder,
                                    char *text,
                                    size_t capacity,
                                    size_t *len,
                                    struct remask_error **error);

/// Gives a decoder back; NULL is fine.
REMASK_API void remask_decoder_free(struct remask_decoder *decoder);

/// The prompt that the model's chat template makes of a conversation, as text, in the manner of
/// `remask_model_decode`. To run it, use `remask_canvas_append_chat` or `remask_model_encode_chat`:
/// encoding this text would take marks that a message spells for real.
///
/// @param flags     Bit set of `REMASK_CHAT_*`.
REMASK_API
REMASK_MUST_USE
remask_status remask_model_render_chat(const struct remask_model *model,
                                       const struct remask_message *messages,
                                       size_t n_messages,
                                       uint32_t flags,
                                       char *text,
                                       size_t capacity,
                                       size_t *len,
                                       struct remask_error **error);

/// The tokens of that prompt, in the manner of `remask_model_encode`. Special tokens that the template
/// writes become ids; those that a message spells stay text.
REMASK_API
REMASK_MUST_USE
remask_status remask_model_encode_chat(const struct remask_model *model,
                                       const struct remask_message *messages,
                                       size_t n_messages,
                                       uint32_t flags,
                                       int32_t *tokens,
                                       size_t capacity,
                                       size_t *len,
                                       struct remask_error **error);

/// Makes an empty canvas for `model`. It keeps what it needs of the model.
REMASK_API
REMASK_MUST_USE
remask_status remask_canvas_new(const struct remask_model *model,
                                struct remask_canvas **out_canvas,
                                struct remask_error **error);

/// Makes a copy of a canvas as it is now. The copy belongs to no run.
REMASK_API
REMASK_MUST_USE
remask_status remask_canvas_copy(const struct remask_canvas *canvas,
                                 struct remask_canvas **out_canvas,
                                 struct remask_error **error);

/// Gives a canvas back; NULL is fine. A run on it goes on.
REMASK_API void remask_canvas_free(struct remask_canvas *canvas);

/// Appends fixed text.
///
/// @param flags     Bit set of `REMASK_ENCODE_*`.
REMASK_API
REMASK_MUST_USE
remask_status remask_canvas_append_text(struct remask_canvas *canvas,
                                        const char *text,
                                        size_t text_len,
                                        uint32_t flags,
                                        struct remask_error **error);

/// Appends fixed tokens. The mask token among them is shown to the model and never filled.
REMASK_API
REMASK_MUST_USE
remask_status remask_canvas_append_tokens(struct remask_canvas *canvas,
                                          const int32_t *tokens,
                                          size_t n_tokens,
                                          struct remask_error **error);

/// Appends `n` slots for a run to fill.
REMASK_API
REMASK_MUST_USE
remask_status remask_canvas_append_masks(struct remask_canvas *canvas,
                                         size_t n,
                                         struct remask_error **error);

/// Appends text with holes: `The [[4]] sat on the [[3]].` has 4 and 3 slots to fill. `[[[[` stands for
/// a literal `[[`.
///
/// @param flags     Bit set of `REMASK_ENCODE_*`.
REMASK_API
REMASK_MUST_USE
remask_status remask_canvas_append_holes(struct remask_canvas *canvas,
                                         const char *text,
                                         size_t text_len,
                                         uint32_t flags,
                                         struct remask_error **error);

/// Appends a conversation through the model's chat template.
///
/// @param flags     Bit set of `REMASK_CHAT_*`.
REMASK_API
REMASK_MUST_USE
remask_status remask_canvas_append_chat(struct remask_canvas *canvas,
                                        const struct remask_message *messages,
                                        size_t n_messages,
                                        uint32_t flags,
                                        struct remask_error **error);

/// Masks slots `[begin, end)` again, fixed ones too. Here and below an `end` of SIZE_MAX is the
/// canvas' end.
REMASK_API
REMASK_MUST_USE
remask_status remask_canvas_mask(struct remask_canvas *canvas,
                                 size_t begin,
                                 size_t end,
                                 struct remask_error **error);

/// Fixes what a run filled in `[begin, end)`, so that the next run takes it as given. Masked slots stay
/// masked.
REMASK_API
REMASK_MUST_USE
remask_status remask_canvas_fix(struct remask_canvas *canvas,
                                size_t begin,
                                size_t end,
                                struct remask_error **error);

/// Puts fixed tokens into the slots from `begin` on, whatever is there.
REMASK_API
REMASK_MUST_USE
remask_status remask_canvas_set(struct remask_canvas *canvas,
                                size_t begin,
                                const int32_t *tokens,
                                size_t n_tokens,
                                struct remask_error **error);

/// Tokens that runs never put into slots `[begin, end)`, besides those forbidden there before;
/// `n_tokens` 0 allows all again.
REMASK_API
REMASK_MUST_USE
remask_status remask_canvas_forbid(struct remask_canvas *canvas,
                                   size_t begin,
                                   size_t end,
                                   const int32_t *tokens,
                                   size_t n_tokens,
                                   struct remask_error **error);

/// Removes everything from slot `n_slots` on; 0 empties the canvas.
REMASK_API
REMASK_MUST_USE
remask_status remask_canvas_truncate(struct remask_canvas *canvas,
                                     size_t n_slots,
                                     struct remask_error **error);

/// Number of slots, and of those still masked.
///
/// @param n_slots   NULL if not wanted.
/// @param n_masked  NULL if not wanted.
REMASK_API
REMASK_MUST_USE
remask_status remask_canvas_count(const struct remask_canvas *canvas,
                                  size_t *n_slots,
                                  size_t *n_masked,
                                  struct remask_error **error);

/// Copies the token of every slot, in the manner of `remask_model_encode`.
REMASK_API
REMASK_MUST_USE
remask_status remask_canvas_tokens(const struct remask_canvas *canvas,
                                   int32_t *tokens,
                                   size_t capacity,
                                   size_t *len,
                                   struct remask_error **error);

/// Copies the state of every slot (`REMASK_SLOT_*`), in the manner of `remask_model_encode`.
REMASK_API
REMASK_MUST_USE
remask_status remask_canvas_slots(const struct remask_canvas *canvas,
                                  uint8_t *slots,
                                  size_t capacity,
                                  size_t *len,
                                  struct remask_error **error);

/// Text of slots `[begin, end)`, in the manner of `remask_model_decode`. Slots still masked give nothing.
///
/// @param flags     Bit set of `REMASK_DECODE_*`.
REMASK_API
REMASK_MUST_USE
remask_status remask_canvas_text(const struct remask_canvas *canvas,
                                 size_t begin,
                                 size_t end,
                                 uint32_t flags,
                                 char *text,
                                 size_t capacity,
                                 size_t *len,
                                 struct remask_error **error);

/// Text of the response: everything after the last fixed slot, in the manner of `remask_model_decode`.
///
/// @param flags     Bit set of `REMASK_DECODE_*`.
REMASK_API
REMASK_MUST_USE
remask_status remask_canvas_response(const struct remask_canvas *canvas,
                                     uint32_t flags,
                                     char *text,
                                     size_t capacity,
                                     size_t *len,
                                     struct remask_error **error);

/// Sets `params` to the defaults. Pass `sizeof(remask_session_params)`.
REMASK_API void remask_session_params_init(struct remask_session_params *params, size_t struct_size);

/// Prepares `stats`. Pass `sizeof(remask_session_stats)`.
REMASK_API void remask_session_stats_init(struct remask_session_stats *stats, size_t struct_size);

/// Makes a session on `model`, which it keeps alive. Memory to compute in is taken at the first run.
///
/// @param params    NULL for the defaults.
REMASK_API
REMASK_MUST_USE
remask_status remask_session_new(const struct remask_model *model,
                                 const struct remask_session_params *params,
                                 struct remask_session **out_session,
                                 struct remask_error **error);

/// Gives a session back; NULL is fine. A run on it stays valid.
REMASK_API void remask_session_free(struct remask_session *session);

/// What a session has done.
REMASK_API
REMASK_MUST_USE
remask_status remask_session_get_stats(const struct remask_session *session,
                                       struct remask_session_stats *out_stats,
                                       struct remask_error **error);

/// Sets `params` to the defaults. Pass `sizeof(remask_generate_params)`.
REMASK_API void remask_generate_params_init(struct remask_generate_params *params, size_t struct_size);

/// Prepares `step` to receive a report. Pass `sizeof(remask_step)`.
REMASK_API void remask_step_init(struct remask_step *step, size_t struct_size);

/// Starts a run that fills the masked slots of one or more canvases. They go through the network together
/// where that pays. On the CPU a canvas comes out as it would alone, whatever its neighbours are; on
/// other devices the last digits of its logits may depend on them.
///
/// Fails with REMASK_STATUS_BUSY while another run or call uses the session or one of the canvases.
///
/// @param canvases  Array of `n_canvases` handles. The run keeps what it needs of them.
/// @param params    NULL for the defaults.
/// @param out_run   Receives an owned handle; free it with `remask_run_free`.
REMASK_API
REMASK_MUST_USE
remask_status remask_run_new(struct remask_session *session,
                             struct remask_canvas *const *canvases,
                             size_t n_canvases,
                             const struct remask_generate_params *params,
                             struct remask_run **out_run,
                             struct remask_error **error);

/// Does one step on every canvas that is not finished, and shows it on the canvases. A canvas that is
/// finished by it is cut where its response ends. A run that is done stays as it is.
///
/// When it fails the canvases are as before the step; it can be tried again.
///
/// @param step      Receives the report of canvas 0; NULL if not wanted.
REMASK_API
REMASK_MUST_USE
remask_status remask_run_step(struct remask_run *run,
                              struct remask_step *step,
                              struct remask_error **error);

/// Starts what the next step computes, where GPUs compute all of it, and returns at once: for hosts with
/// something else to do between two steps. On a CPU, or where GPUs work as one, nothing is done ahead.
///
/// Until that step `remask_run_replace` returns REMASK_STATUS_BUSY. An error of a device is told by that
/// step. `remask_session_generate` does this before it calls its callback.
REMASK_API
REMASK_MUST_USE
remask_status remask_run_begin_step(struct remask_run *run,
                                    struct remask_error **error);

/// The last step's report of canvas `i_canvas`. Fails with `REMASK_STATUS_NOT_FOUND` beyond the last.
REMASK_API
REMASK_MUST_USE
remask_status remask_run_report(const struct remask_run *run,
                                size_t i_canvas,
                                struct remask_step *step,
                                struct remask_error **error);

/// Puts `tokens` on canvas `i_canvas` between two steps, as if the steps so far had led there: masked
/// where they are the mask token. Fixed slots keep what they hold.
///
/// @param n_tokens  Must be the number of the canvas' slots.
REMASK_API
REMASK_MUST_USE
remask_status remask_run_replace(struct remask_run *run,
                                 size_t i_canvas,
                                 const int32_t *tokens,
                                 size_t n_tokens,
                                 struct remask_error **error);

/// Gives a run back and releases its session and canvases, which keep what was filled; NULL is fine.
REMASK_API void remask_run_free(struct remask_run *run);

/// Fills every masked slot: `remask_run_new`, `remask_run_step` until done, `remask_run_free`.
///
/// While it runs, other calls on `session` and calls that change the canvases return
/// REMASK_STATUS_BUSY, from the callback too. When it fails or is stopped the canvases keep what was
/// filled.
///
/// @param params    NULL for the defaults.
/// @param on_step   NULL for none.
/// @param user_data Goes to `on_step` untouched.
REMASK_API
REMASK_MUST_USE
remask_status remask_session_generate(struct remask_session *session,
                                      struct remask_canvas *const *canvases,
                                      size_t n_canvases,
                                      const struct remask_generate_params *params,
                                      remask_step_fn on_step,
                                      void *user_data,
                                      struct remask_error **error);

/// Sets `params` to the defaults. Pass `sizeof(remask_score_params)`.
REMASK_API void remask_score_params_init(struct remask_score_params *params, size_t struct_size);

/// Prepares `score`. Pass `sizeof(remask_score)`.
REMASK_API void remask_score_init(struct remask_score *score, size_t struct_size);

/// Estimates the log-likelihood of tokens `[begin, end)`, given all others.
///
/// @param end       SIZE_MAX for `n_tokens`.
/// @param params    NULL for the defaults.
REMASK_API
REMASK_MUST_USE
remask_status remask_session_score(struct remask_session *session,
                                   const int32_t *tokens,
                                   size_t n_tokens,
                                   size_t begin,
                                   size_t end,
                                   const struct remask_score_params *params,
                                   struct remask_score *out_score,
                                   struct remask_error **error);

/// Scores each of several continuations of one prompt, with the same masks where they are drawn.
///
/// @param choices         Array of `n_choices`; none may be empty.
/// @param params          NULL for the defaults.
/// @param log_likelihoods Receives `n_choices` log-likelihoods in nats; NULL if not wanted.
/// @param probabilities   Receives `n_choices` probabilities that sum to 1: the softmax of the
///                        log-likelihoods; NULL if not wanted.
/// @param out_best        Receives the index of the likeliest; NULL if not wanted.
REMASK_API
REMASK_MUST_USE
remask_status remask_session_choose(struct remask_session *session,
                                    const int32_t *prompt,
                                    size_t n_prompt,
                                    const struct remask_tokens *choices,
                                    size_t n_choices,
                                    const struct remask_score_params *params,
                                    double *log_likelihoods,
                                    double *probabilities,
                                    size_t *out_best,
                                    struct remask_error **error);

/// Runs the network once on `tokens[n_tokens]`, mask tokens included, and copies the raw logits of
/// `rows`, row-major `[n_rows, n_vocab]`, in the manner of `remask_model_encode`: with too small a
/// buffer nothing is run, and `len` receives the number of floats needed.
///
/// @param rows      Slots whose logits are wanted; NULL for all, in order.
/// @param n_rows    Their number; 0 where `rows` is NULL.
/// @param capacity  Room in `logits`, in floats.
REMASK_API
REMASK_MUST_USE
remask_status remask_session_logits(struct remask_session *session,
                                    const int32_t *tokens,
                                    size_t n_tokens,
                                    const uint32_t *rows,
                                    size_t n_rows,
                                    float *logits,
                                    size_t capacity,
                                    size_t *len,
                                    struct remask_error **error);

/// As `remask_session_logits`, for the hidden state after the final norm: row-major `[n_tokens, n_embd]`,
/// or `[n_embd]` where it is pooled.
///
/// @param pooling   One of `REMASK_POOLING_*`.
REMASK_API
REMASK_MUST_USE
remask_status remask_session_embeddings(struct remask_session *session,
                                        const int32_t *tokens,
                                        size_t n_tokens,
                                        remask_pooling pooling,
                                        float *embeddings,
                                        size_t capacity,
                                        size_t *len,
                                        struct remask_error **error);

/// Sets `params` to the defaults. Pass `sizeof(remask_write_params)`.
REMASK_API void remask_write_params_init(struct remask_write_params *params, size_t struct_size);

/// Converts the Hugging Face checkpoint in folder `input` to the GGUF file `output`, which appears whole
/// or not at all.
///
/// @param params    NULL for the defaults.
REMASK_API
REMASK_MUST_USE
remask_status remask_convert(const char *input,
                             size_t input_len,
                             const char *output,
                             size_t output_len,
                             const struct remask_write_params *params,
                             struct remask_error **error);

/// Writes the model file `input` as another type to `output`, which appears whole or not at all.
///
/// @param params    NULL for the defaults.
REMASK_API
REMASK_MUST_USE
remask_status remask_quantize(const char *input,
                              size_t input_len,
                              const char *output,
                              size_t output_len,
                              const struct remask_write_params *params,
                              struct remask_error **error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* REMASK_H */
