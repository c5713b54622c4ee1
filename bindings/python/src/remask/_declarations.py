"""The C interface, for cffi. Made from include/remask.h by tools/declarations.py; do not edit."""

CDEF = """
#define REMASK_ABI_VERSION 0
#define REMASK_CONTINUE 0
#define REMASK_STOP 1
#define REMASK_LOG_DEBUG 1
#define REMASK_LOG_INFO 2
#define REMASK_LOG_WARN 3
#define REMASK_LOG_ERROR 4
#define REMASK_LOAD_READ 1
#define REMASK_ENCODE_SPECIAL 1
#define REMASK_ENCODE_BOS 2
#define REMASK_DECODE_SPECIAL 1
#define REMASK_TOKEN_NORMAL 1
#define REMASK_TOKEN_UNKNOWN 2
#define REMASK_TOKEN_CONTROL 4
#define REMASK_TOKEN_USER_DEFINED 8
#define REMASK_TOKEN_UNUSED 16
#define REMASK_TOKEN_BYTE 32
#define REMASK_CHAT_CLOSED 1
#define REMASK_SLOT_FIXED 0
#define REMASK_SLOT_MASKED 1
#define REMASK_SLOT_FILLED 2
#define REMASK_GENERATE_STOP_AT_EOS 1
#define REMASK_GENERATE_WITHOUT_EOS 2
#define REMASK_GENERATE_EOS_LAST 4
#define REMASK_GENERATE_IDLE_STEPS 8
#define REMASK_GENERATE_EARLY_COMMIT 16
#define REMASK_WRITE_OVERWRITE 1
#define REMASK_WRITE_REQUANTIZE 2
#define REMASK_WRITE_PURE 4
typedef struct remask_cancel remask_cancel;
typedef struct remask_canvas remask_canvas;
typedef struct remask_decoder remask_decoder;
typedef struct remask_error remask_error;
typedef struct remask_model remask_model;
typedef struct remask_run remask_run;
typedef struct remask_session remask_session;
typedef int32_t remask_status;
typedef void (*remask_log_fn)(int32_t level, const char *message, void *user_data);
typedef void (*remask_drop_fn)(void *user_data);
typedef int32_t remask_device_kind;
typedef struct remask_device {
  uint32_t struct_size;
  remask_device_kind kind;
  uint64_t memory_free;
  uint64_t memory_total;
  char name[64];
  char description[128];
} remask_device;
typedef struct remask_model_info {
  uint32_t struct_size;
  uint32_t has_chat_template;
  uint32_t n_ctx;
  uint32_t n_vocab;
  uint32_t n_embd;
  uint32_t n_layer;
  uint32_t n_head;
  uint32_t n_head_kv;
  uint32_t n_ff;
  int32_t mask_token;
  int32_t bos_token;
  int32_t eos_token;
  int32_t eot_token;
  int32_t pad_token;
  uint64_t n_params;
  uint64_t n_bytes;
  const char *arch;
} remask_model_info;
typedef int32_t remask_verify;
typedef int32_t (*remask_progress_fn)(uint64_t done, uint64_t total, void *user_data);
typedef int32_t remask_split_mode;
typedef struct remask_load_params {
  uint32_t struct_size;
  uint32_t flags;
  remask_verify verify;
  uint32_t n_gpu_layers;
  const char *device;
  const char *tokenizer_path;
  remask_progress_fn on_progress;
  void *user_data;
  const struct remask_cancel *cancel;
  const double *split;
  size_t n_split;
  remask_split_mode split_mode;
  uint32_t reserved;
} remask_load_params;
typedef int32_t (*remask_read_at_fn)(uint64_t offset, void *buffer, size_t n, void *user_data);
typedef struct remask_reader {
  uint32_t struct_size;
  uint32_t flags;
  uint64_t n_bytes;
  remask_read_at_fn read_at;
  void *user_data;
} remask_reader;
typedef struct remask_estimate {
  uint32_t struct_size;
  uint32_t n_ctx;
  uint64_t weights;
  uint64_t session;
} remask_estimate;
typedef struct remask_text {
  const char *data;
  size_t len;
} remask_text;
typedef struct remask_message {
  struct remask_text role;
  struct remask_text content;
} remask_message;
typedef int32_t remask_flash;
typedef struct remask_session_params {
  uint32_t struct_size;
  uint32_t n_threads;
  remask_flash flash;
  uint32_t max_canvas;
} remask_session_params;
typedef struct remask_session_stats {
  uint32_t struct_size;
  uint32_t n_threads;
  uint64_t n_bytes;
  uint64_t n_runs;
  uint64_t n_steps;
  uint64_t nfe;
  uint64_t elapsed_us;
} remask_session_stats;
typedef int32_t remask_order;
typedef int32_t remask_commit;
typedef int32_t remask_speed;
typedef int32_t remask_cache;
typedef int32_t remask_cache_type;
typedef int32_t remask_fast_dllm;
typedef struct remask_generate_params {
  uint32_t struct_size;
  uint32_t flags;
  uint32_t n_steps;
  uint32_t block_length;
  remask_order order;
  remask_commit commit;
  int32_t eos_token;
  int32_t eot_token;
  int64_t response_start;
  uint64_t seed;
  double commit_value;
  double temperature;
  double top_p;
  uint64_t top_k;
  double repetition_penalty;
  double guidance;
  const int32_t *suppress;
  size_t n_suppress;
  const struct remask_text *stop;
  size_t n_stop;
  const uint64_t *seeds;
  size_t n_seeds;
  const struct remask_cancel *cancel;
  remask_speed speed;
  remask_cache cache;
  remask_cache_type cache_type;
  remask_fast_dllm fast_dllm;
  uint32_t cache_refresh;
  uint32_t cache_prompt_interval;
  uint32_t cache_response_interval;
  uint32_t commit_radius;
  uint64_t suffix_window;
  double cache_update;
  double commit_relaxed;
  double early_commit[3];
} remask_generate_params;
typedef struct remask_change {
  uint32_t slot;
  int32_t token;
  float confidence;
  uint32_t reserved;
} remask_change;
typedef struct remask_step {
  uint32_t struct_size;
  uint32_t i_canvas;
  uint32_t n_canvases;
  uint32_t done;
  uint32_t canvas_done;
  uint32_t ended;
  uint32_t i_step;
  uint32_t n_steps;
  uint32_t block_begin;
  uint32_t block_end;
  uint32_t n_masked;
  uint32_t end;
  uint64_t nfe;
  uint64_t step_us;
  uint64_t elapsed_us;
  const struct remask_change *changed;
  size_t n_changed;
  const int32_t *tokens;
  const uint8_t *slots;
  size_t n_slots;
} remask_step;
typedef int32_t (*remask_step_fn)(const struct remask_step *step, void *user_data);
typedef int32_t remask_score_method;
typedef struct remask_score_params {
  uint32_t struct_size;
  remask_score_method method;
  uint32_t n_samples;
  uint32_t n_batch;
  uint64_t seed;
  double guidance;
  const struct remask_cancel *cancel;
} remask_score_params;
typedef struct remask_score {
  uint32_t struct_size;
  uint32_t n_tokens;
  double log_likelihood;
  double standard_error;
  uint64_t nfe;
} remask_score;
typedef struct remask_tokens {
  const int32_t *data;
  size_t len;
} remask_tokens;
typedef int32_t remask_pooling;
typedef struct remask_write_params {
  uint32_t struct_size;
  uint32_t flags;
  uint32_t n_threads;
  uint32_t reserved;
  const char *type_name;
  const char *imatrix_path;
  const struct remask_text *overrides;
  size_t n_overrides;
  const char *name;
  remask_progress_fn on_progress;
  void *user_data;
  const struct remask_cancel *cancel;
} remask_write_params;
#define REMASK_STATUS_OK 0
#define REMASK_STATUS_INVALID_ARGUMENT 1
#define REMASK_STATUS_IO 2
#define REMASK_STATUS_FORMAT 3
#define REMASK_STATUS_LIMIT 4
#define REMASK_STATUS_UNSUPPORTED 5
#define REMASK_STATUS_MODEL 6
#define REMASK_STATUS_TOKENIZER 7
#define REMASK_STATUS_TEMPLATE 8
#define REMASK_STATUS_NUMERIC 9
#define REMASK_STATUS_RESOURCE 10
#define REMASK_STATUS_DEVICE 11
#define REMASK_STATUS_CANCELLED 12
#define REMASK_STATUS_BUSY 13
#define REMASK_STATUS_DATA 14
#define REMASK_STATUS_INTERNAL 15
#define REMASK_STATUS_BUFFER_TOO_SMALL 16
#define REMASK_STATUS_NOT_FOUND 17
#define REMASK_DEVICE_CPU 0
#define REMASK_DEVICE_GPU 1
#define REMASK_DEVICE_IGPU 2
#define REMASK_DEVICE_ACCEL 3
#define REMASK_VERIFY_FIRST_USE 0
#define REMASK_VERIFY_LOAD 1
#define REMASK_VERIFY_NEVER 2
#define REMASK_SPLIT_LAYERS 0
#define REMASK_SPLIT_TENSORS 1
#define REMASK_FLASH_AUTO 0
#define REMASK_FLASH_ON 1
#define REMASK_FLASH_OFF 2
#define REMASK_ORDER_LOW_CONFIDENCE 0
#define REMASK_ORDER_RANDOM 1
#define REMASK_ORDER_MARGIN 2
#define REMASK_ORDER_ENTROPY 3
#define REMASK_ORDER_LEFT_TO_RIGHT 4
#define REMASK_ORDER_ORIGIN 5
#define REMASK_COMMIT_QUOTA 0
#define REMASK_COMMIT_THRESHOLD 1
#define REMASK_COMMIT_FACTOR 2
#define REMASK_COMMIT_ENTROPY_BOUND 3
#define REMASK_COMMIT_NEIGHBOURS 4
#define REMASK_SPEED_EXACT 0
#define REMASK_SPEED_BALANCED 1
#define REMASK_SPEED_FAST 2
#define REMASK_CACHE_NONE 0
#define REMASK_CACHE_PREFIX 1
#define REMASK_CACHE_DUAL 2
#define REMASK_CACHE_FEATURE 3
#define REMASK_CACHE_TYPE_F32 0
#define REMASK_CACHE_TYPE_F16 1
#define REMASK_CACHE_TYPE_Q8_0 2
#define REMASK_FAST_DLLM_NONE 0
#define REMASK_FAST_DLLM_JUN2025 1
#define REMASK_FAST_DLLM_MAIN 2
#define REMASK_SCORE_BOUND 0
#define REMASK_SCORE_PSEUDO 1
#define REMASK_POOLING_NONE 0
#define REMASK_POOLING_MEAN 1
#define REMASK_POOLING_LAST 2
const char *remask_version(void);
uint32_t remask_abi_version(void);
const char *remask_status_name(remask_status status);
remask_status remask_error_status(const struct remask_error *error);
const char *remask_error_message(const struct remask_error *error);
void remask_error_free(struct remask_error *error);
void remask_log_set(remask_log_fn log, int32_t min_level, void *user_data, remask_drop_fn drop);
void remask_device_init(struct remask_device *device, size_t struct_size);
remask_status remask_backends_load(const char *folder, size_t folder_len, size_t *out_loaded, struct remask_error **error);
size_t remask_device_count(void);
remask_status remask_device_get(size_t index, struct remask_device *out_device, struct remask_error **error);
struct remask_cancel *remask_cancel_new(void);
void remask_cancel_set(const struct remask_cancel *cancel);
void remask_cancel_reset(const struct remask_cancel *cancel);
int32_t remask_cancel_is_set(const struct remask_cancel *cancel);
void remask_cancel_free(struct remask_cancel *cancel);
void remask_model_free(struct remask_model *model);
void remask_model_info_init(struct remask_model_info *info, size_t struct_size);
remask_status remask_model_get_info(const struct remask_model *model, struct remask_model_info *out_info, struct remask_error **error);
size_t remask_model_meta_count(const struct remask_model *model);
remask_status remask_model_meta_key(const struct remask_model *model, size_t index, char *text, size_t capacity, size_t *len, struct remask_error **error);
remask_status remask_model_meta_value(const struct remask_model *model, const char *key, size_t key_len, char *text, size_t capacity, size_t *len, struct remask_error **error);
void remask_load_params_init(struct remask_load_params *params, size_t struct_size);
void remask_reader_init(struct remask_reader *reader, size_t struct_size);
void remask_estimate_init(struct remask_estimate *estimate, size_t struct_size);
remask_status remask_model_load(const char *path, size_t path_len, const struct remask_load_params *params, struct remask_model **out_model, struct remask_error **error);
remask_status remask_model_load_memory(const void *bytes, size_t n_bytes, remask_drop_fn drop, void *user_data, const struct remask_load_params *params, struct remask_model **out_model, struct remask_error **error);
remask_status remask_model_load_reader(const struct remask_reader *reader, const struct remask_load_params *params, struct remask_model **out_model, struct remask_error **error);
remask_status remask_estimate_file(const char *path, size_t path_len, size_t n_slots, size_t n_masked, struct remask_estimate *out_estimate, struct remask_error **error);
remask_status remask_estimate_memory(const void *bytes, size_t n_bytes, size_t n_slots, size_t n_masked, struct remask_estimate *out_estimate, struct remask_error **error);
remask_status remask_estimate_model(const struct remask_model *model, size_t n_slots, size_t n_masked, struct remask_estimate *out_estimate, struct remask_error **error);
remask_status remask_model_encode(const struct remask_model *model, const char *text, size_t text_len, uint32_t flags, int32_t *tokens, size_t capacity, size_t *len, struct remask_error **error);
remask_status remask_model_decode(const struct remask_model *model, const int32_t *tokens, size_t n_tokens, uint32_t flags, char *text, size_t capacity, size_t *len, struct remask_error **error);
remask_status remask_model_token_text(const struct remask_model *model, int32_t token, char *text, size_t capacity, size_t *len, struct remask_error **error);
uint32_t remask_model_token_attr(const struct remask_model *model, int32_t token);
int32_t remask_model_token_find(const struct remask_model *model, const char *text, size_t text_len);
remask_status remask_decoder_new(const struct remask_model *model, uint32_t flags, struct remask_decoder **out_decoder, struct remask_error **error);
remask_status remask_decoder_push(struct remask_decoder *decoder, const int32_t *tokens, size_t n_tokens, char *text, size_t capacity, size_t *len, struct remask_error **error);
remask_status remask_decoder_finish(struct remask_decoder *decoder, char *text, size_t capacity, size_t *len, struct remask_error **error);
void remask_decoder_free(struct remask_decoder *decoder);
remask_status remask_model_render_chat(const struct remask_model *model, const struct remask_message *messages, size_t n_messages, uint32_t flags, char *text, size_t capacity, size_t *len, struct remask_error **error);
remask_status remask_model_encode_chat(const struct remask_model *model, const struct remask_message *messages, size_t n_messages, uint32_t flags, int32_t *tokens, size_t capacity, size_t *len, struct remask_error **error);
remask_status remask_canvas_new(const struct remask_model *model, struct remask_canvas **out_canvas, struct remask_error **error);
remask_status remask_canvas_copy(const struct remask_canvas *canvas, struct remask_canvas **out_canvas, struct remask_error **error);
void remask_canvas_free(struct remask_canvas *canvas);
remask_status remask_canvas_append_text(struct remask_canvas *canvas, const char *text, size_t text_len, uint32_t flags, struct remask_error **error);
remask_status remask_canvas_append_tokens(struct remask_canvas *canvas, const int32_t *tokens, size_t n_tokens, struct remask_error **error);
remask_status remask_canvas_append_masks(struct remask_canvas *canvas, size_t n, struct remask_error **error);
remask_status remask_canvas_append_holes(struct remask_canvas *canvas, const char *text, size_t text_len, uint32_t flags, struct remask_error **error);
remask_status remask_canvas_append_chat(struct remask_canvas *canvas, const struct remask_message *messages, size_t n_messages, uint32_t flags, struct remask_error **error);
remask_status remask_canvas_mask(struct remask_canvas *canvas, size_t begin, size_t end, struct remask_error **error);
remask_status remask_canvas_fix(struct remask_canvas *canvas, size_t begin, size_t end, struct remask_error **error);
remask_status remask_canvas_set(struct remask_canvas *canvas, size_t begin, const int32_t *tokens, size_t n_tokens, struct remask_error **error);
remask_status remask_canvas_forbid(struct remask_canvas *canvas, size_t begin, size_t end, const int32_t *tokens, size_t n_tokens, struct remask_error **error);
remask_status remask_canvas_truncate(struct remask_canvas *canvas, size_t n_slots, struct remask_error **error);
remask_status remask_canvas_count(const struct remask_canvas *canvas, size_t *n_slots, size_t *n_masked, struct remask_error **error);
remask_status remask_canvas_tokens(const struct remask_canvas *canvas, int32_t *tokens, size_t capacity, size_t *len, struct remask_error **error);
remask_status remask_canvas_slots(const struct remask_canvas *canvas, uint8_t *slots, size_t capacity, size_t *len, struct remask_error **error);
remask_status remask_canvas_text(const struct remask_canvas *canvas, size_t begin, size_t end, uint32_t flags, char *text, size_t capacity, size_t *len, struct remask_error **error);
remask_status remask_canvas_response(const struct remask_canvas *canvas, uint32_t flags, char *text, size_t capacity, size_t *len, struct remask_error **error);
void remask_session_params_init(struct remask_session_params *params, size_t struct_size);
void remask_session_stats_init(struct remask_session_stats *stats, size_t struct_size);
remask_status remask_session_new(const struct remask_model *model, const struct remask_session_params *params, struct remask_session **out_session, struct remask_error **error);
void remask_session_free(struct remask_session *session);
remask_status remask_session_get_stats(const struct remask_session *session, struct remask_session_stats *out_stats, struct remask_error **error);
void remask_generate_params_init(struct remask_generate_params *params, size_t struct_size);
void remask_step_init(struct remask_step *step, size_t struct_size);
remask_status remask_run_new(struct remask_session *session, struct remask_canvas *const *canvases, size_t n_canvases, const struct remask_generate_params *params, struct remask_run **out_run, struct remask_error **error);
remask_status remask_run_step(struct remask_run *run, struct remask_step *step, struct remask_error **error);
remask_status remask_run_begin_step(struct remask_run *run, struct remask_error **error);
remask_status remask_run_report(const struct remask_run *run, size_t i_canvas, struct remask_step *step, struct remask_error **error);
remask_status remask_run_replace(struct remask_run *run, size_t i_canvas, const int32_t *tokens, size_t n_tokens, struct remask_error **error);
void remask_run_free(struct remask_run *run);
remask_status remask_session_generate(struct remask_session *session, struct remask_canvas *const *canvases, size_t n_canvases, const struct remask_generate_params *params, remask_step_fn on_step, void *user_data, struct remask_error **error);
void remask_score_params_init(struct remask_score_params *params, size_t struct_size);
void remask_score_init(struct remask_score *score, size_t struct_size);
remask_status remask_session_score(struct remask_session *session, const int32_t *tokens, size_t n_tokens, size_t begin, size_t end, const struct remask_score_params *params, struct remask_score *out_score, struct remask_error **error);
remask_status remask_session_choose(struct remask_session *session, const int32_t *prompt, size_t n_prompt, const struct remask_tokens *choices, size_t n_choices, const struct remask_score_params *params, double *log_likelihoods, double *probabilities, size_t *out_best, struct remask_error **error);
remask_status remask_session_logits(struct remask_session *session, const int32_t *tokens, size_t n_tokens, const uint32_t *rows, size_t n_rows, float *logits, size_t capacity, size_t *len, struct remask_error **error);
remask_status remask_session_embeddings(struct remask_session *session, const int32_t *tokens, size_t n_tokens, remask_pooling pooling, float *embeddings, size_t capacity, size_t *len, struct remask_error **error);
void remask_write_params_init(struct remask_write_params *params, size_t struct_size);
remask_status remask_convert(const char *input, size_t input_len, const char *output, size_t output_len, const struct remask_write_params *params, struct remask_error **error);
remask_status remask_quantize(const char *input, size_t input_len, const char *output, size_t output_len, const struct remask_write_params *params, struct remask_error **error);
"""
