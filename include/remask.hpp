// remask for C++17 and later: remask.h with owners, exceptions and ranges. Header only; link remask.
//
// Owners
//   are move-only, empty after a move, and may go in any order. `get()` is the C handle, borrowed.
// Errors
//   are thrown as `remask::error`. Where exceptions are off, or REMASK_NO_EXCEPTIONS is defined, every
//   function that is marked `fallible<T>` returns a `remask::result<T>` in their place: ask it before use.
// Callbacks
//   return nothing, or false to stop. What they throw stops the call and comes out of it.
// Parameters
//   are the C structs with their defaults set; remask.h says what each field is. Texts and tokens that
//   they point to are the caller's.
// Threads, units, flags
//   are those of remask.h.

#ifndef REMASK_HPP
#define REMASK_HPP

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "remask.h"

#if defined(__cpp_exceptions) || defined(__EXCEPTIONS) || defined(_CPPUNWIND)
#define REMASK_HAS_TRY 1
#else
#define REMASK_HAS_TRY 0
#endif

#if REMASK_HAS_TRY && !defined(REMASK_NO_EXCEPTIONS)
#define REMASK_THROWS 1
#define REMASK_FLAVOUR throwing
#else
#define REMASK_THROWS 0
#define REMASK_FLAVOUR returning
#endif

namespace remask {
// One program may hold translation units of both kinds: their names must differ.
inline namespace REMASK_FLAVOUR {

/// Why a call failed. Cheap to copy.
class error : public std::exception {
 public:
  error(remask_status status, remask_error* owned) : status_(status) {
    if (owned != nullptr) owned_.reset(owned, remask_error_free);
  }

  /// One of `REMASK_STATUS_*`.
  remask_status status() const noexcept { return status_; }

  /// The message, one line.
  const char* what() const noexcept override {
    return owned_ ? remask_error_message(owned_.get()) : remask_status_name(status_);
  }

 private:
  remask_status status_;
  std::shared_ptr<remask_error> owned_;
};

/// A value, or why there is none.
template <class T>
class [[nodiscard]] result {
 public:
  result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  result(remask::error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return ok(); }

  /// The value; ends the program if there is none.
  T& value() & { return ok() ? *std::get_if<0>(&state_) : (std::abort(), *std::get_if<0>(&state_)); }
  const T& value() const& { return const_cast<result*>(this)->value(); }
  T&& value() && { return std::move(value()); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(value()); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  /// Why there is none; ends the program if there is one.
  const remask::error& error() const {
    if (ok()) std::abort();
    return *std::get_if<1>(&state_);
  }

 private:
  std::variant<T, remask::error> state_;
};

/// Done, or why not.
template <>
class [[nodiscard]] result<void> {
 public:
  result() = default;
  result(remask::error error) : error_(std::move(error)) {}

  bool ok() const noexcept { return !error_; }
  explicit operator bool() const noexcept { return ok(); }

  /// Why not; ends the program if it is done.
  const remask::error& error() const {
    if (ok()) std::abort();
    return *error_;
  }

 private:
  std::optional<remask::error> error_;
};

#if REMASK_THROWS
/// What a function that can fail returns: here the value itself.
template <class T>
using fallible = T;
#else
/// What a function that can fail returns: here a `result`.
template <class T>
using fallible = result<T>;
#endif

/// Elements that somebody else owns: made of a vector, an array, a span, or a pointer and a number.
template <class T>
class view {
 public:
  constexpr view() noexcept = default;
  constexpr view(const T* data, std::size_t size) noexcept : data_(data), size_(size) {}
  template <class C, class = decltype(static_cast<const T*>(std::declval<const C&>().data())),
            class = decltype(static_cast<std::size_t>(std::declval<const C&>().size()))>
  constexpr view(const C& container) noexcept : data_(container.data()), size_(container.size()) {}

  constexpr const T* data() const noexcept { return data_; }
  constexpr std::size_t size() const noexcept { return size_; }
  constexpr bool empty() const noexcept { return size_ == 0; }
  constexpr const T* begin() const noexcept { return data_; }
  constexpr const T* end() const noexcept { return data_ + size_; }
  constexpr const T& operator[](std::size_t i) const noexcept { return data_[i]; }

 private:
  const T* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Token ids that somebody else owns.
using token_view = view<std::int32_t>;

/// The end of a canvas or of a list of tokens, where a function takes `[begin, end)`.
inline constexpr std::size_t npos = SIZE_MAX;

namespace detail {

inline const char* data_of(std::string_view text) noexcept { return text.empty() ? "" : text.data(); }

template <class T>
fallible<T> give(remask_status status, remask_error* failure, T value) {
  if (status == REMASK_STATUS_OK) return value;
#if REMASK_THROWS
  throw error(status, failure);
#else
  return error(status, failure);
#endif
}

inline fallible<void> give(remask_status status, remask_error* failure) {
  if (status == REMASK_STATUS_OK) return fallible<void>();
#if REMASK_THROWS
  throw error(status, failure);
#else
  return error(status, failure);
#endif
}

/// Calls a C function whose last argument is the error.
template <class F, class... Args>
fallible<void> check(F function, Args... args) {
  remask_error* failure = nullptr;
  const remask_status status = function(args..., &failure);
  return give(status, failure);
}

/// Calls a C function that fills a value, its last argument but the error.
template <class T, class F, class... Args>
fallible<T> fill(F function, Args... args) {
  T value{};
  remask_error* failure = nullptr;
  const remask_status status = function(args..., &value, &failure);
  return give(status, failure, std::move(value));
}

/// Calls a C function that gives a handle, its last argument but the error.
template <class Owner, class F, class... Args>
fallible<Owner> make(F function, Args... args) {
  typename Owner::handle* raw = nullptr;
  remask_error* failure = nullptr;
  const remask_status status = function(args..., &raw, &failure);
  return give(status, failure, Owner(raw));
}

/// Calls a C function that ends in buffer, capacity, length and error, with a buffer that grows to what
/// it needs.
template <class Container, class F, class... Args>
fallible<Container> fetch(std::size_t guess, F function, Args... args) {
  Container out;
  out.resize(guess);
  for (;;) {
    std::size_t len = 0;
    remask_error* failure = nullptr;
    const remask_status status = function(args..., out.data(), out.size(), &len, &failure);
    if (status == REMASK_STATUS_BUFFER_TOO_SMALL && len > out.size()) {
      remask_error_free(failure);
      out.resize(len);
      continue;
    }
    out.resize(status == REMASK_STATUS_OK ? len : 0);
    return give(status, failure, std::move(out));
  }
}

/// Calls a callable from C and keeps what it throws until the C call is over.
template <class F>
class guarded {
 public:
  explicit guarded(F& callable) noexcept : callable_(callable) {}

  template <class... Args>
  std::int32_t operator()(const Args&... args) noexcept {
#if REMASK_HAS_TRY
    try {
      return call(args...);
    } catch (...) {
      thrown_ = std::current_exception();
      return REMASK_STOP;
    }
#else
    return call(args...);
#endif
  }

  /// Throws what the callable threw; frees `failure` if it does.
  void rethrow(remask_error* failure) {
#if REMASK_HAS_TRY
    if (!thrown_) return;
    remask_error_free(failure);
    std::rethrow_exception(std::exchange(thrown_, nullptr));
#else
    static_cast<void>(failure);
#endif
  }

  static std::int32_t on_progress(std::uint64_t done, std::uint64_t total, void* self) noexcept {
    return (*static_cast<guarded*>(self))(done, total);
  }

 private:
  template <class... Args>
  std::int32_t call(const Args&... args) {
    if constexpr (std::is_void_v<std::invoke_result_t<F&, const Args&...>>) {
      callable_(args...);
      return REMASK_CONTINUE;
    } else {
      return callable_(args...) ? REMASK_CONTINUE : REMASK_STOP;
    }
  }

  F& callable_;
#if REMASK_HAS_TRY
  std::exception_ptr thrown_;
#endif
};

template <auto Free>
struct deleter {
  template <class T>
  void operator()(T* handle) const noexcept {
    Free(handle);
  }
};

/// A C handle and its end.
template <class T, auto Free>
class owner {
 public:
  using handle = T;

  /// Takes a handle of the C functions over.
  explicit owner(T* handle = nullptr) noexcept : handle_(handle) {}

  /// The C handle, borrowed; NULL after a move.
  T* get() const noexcept { return handle_.get(); }
  /// The C handle, given away.
  T* release() noexcept { return handle_.release(); }
  explicit operator bool() const noexcept { return handle_ != nullptr; }

 private:
  std::unique_ptr<T, deleter<Free>> handle_;
};

/// A C struct that begins with `struct_size`, made by its `init`.
template <class T, void (*Init)(T*, std::size_t)>
struct sized : T {
  sized() noexcept : T() { Init(this, sizeof(T)); }
};

}  // namespace detail

using device = detail::sized<remask_device, remask_device_init>;
using model_info = detail::sized<remask_model_info, remask_model_info_init>;
using load_params = detail::sized<remask_load_params, remask_load_params_init>;
using estimate = detail::sized<remask_estimate, remask_estimate_init>;
using session_params = detail::sized<remask_session_params, remask_session_params_init>;
using session_stats = detail::sized<remask_session_stats, remask_session_stats_init>;
using generate_params = detail::sized<remask_generate_params, remask_generate_params_init>;
using score_params = detail::sized<remask_score_params, remask_score_params_init>;
using score = detail::sized<remask_score, remask_score_init>;
using write_params = detail::sized<remask_write_params, remask_write_params_init>;
using change = remask_change;

/// A text as a field of a parameter struct, borrowed.
inline remask_text text(std::string_view text) noexcept { return {detail::data_of(text), text.size()}; }

/// One turn of a conversation, borrowed.
inline remask_message message(std::string_view role, std::string_view content) noexcept {
  return {text(role), text(content)};
}

/// Version of the library in use, such as "1.4.2".
inline std::string_view version() noexcept { return remask_version(); }

/// Whether the library in use is of the ABI that this header describes.
inline bool abi_matches() noexcept { return remask_abi_version() == REMASK_ABI_VERSION; }

/// The devices of this build and machine; the processor is one.
inline fallible<std::vector<device>> devices() {
  std::vector<device> found(remask_device_count());
  for (std::size_t i = 0; i < found.size(); ++i) {
    remask_error* failure = nullptr;
    const remask_status status = remask_device_get(i, &found[i], &failure);
    if (status != REMASK_STATUS_OK) return detail::give(status, failure, std::move(found));
  }
  return found;
}

/// Loads backends from the files in `folder`, and says how many; see remask_backends_load.
inline fallible<std::size_t> load_backends(std::string_view folder) {
  std::size_t loaded = 0;
  remask_error* failure = nullptr;
  const remask_status status = remask_backends_load(detail::data_of(folder), folder.size(), &loaded, &failure);
  return detail::give(status, failure, loaded);
}

/// Sends log lines of `min_level` and above to `log(int32_t level, std::string_view message)`, for the
/// whole process and from any thread. It must not call remask; what it throws is lost.
template <class F>
void set_log(std::int32_t min_level, F log) {
  const remask_log_fn forward = [](std::int32_t level, const char* message, void* callable) noexcept {
#if REMASK_HAS_TRY
    try {
      (*static_cast<F*>(callable))(level, std::string_view(message));
    } catch (...) {
    }
#else
    (*static_cast<F*>(callable))(level, std::string_view(message));
#endif
  };
  const remask_drop_fn drop = [](void* callable) noexcept { delete static_cast<F*>(callable); };
  remask_log_set(forward, min_level, new F(std::move(log)), drop);
}

/// Turns logging off, as it is at the start.
inline void set_log(std::nullptr_t) noexcept { remask_log_set(nullptr, 0, nullptr, nullptr); }

/// A flag that stops the calls whose parameters point to it (`params.cancel = cancel.get()`).
class cancel : public detail::owner<remask_cancel, remask_cancel_free> {
 public:
  cancel() : owner(remask_cancel_new()) {}

  /// From any thread and from a signal handler, as the next two.
  void set() const noexcept { remask_cancel_set(get()); }
  void reset() const noexcept { remask_cancel_reset(get()); }
  bool is_set() const noexcept { return remask_cancel_is_set(get()) != 0; }
};

/// Turns tokens into text as they come.
class decoder : public detail::owner<remask_decoder, remask_decoder_free> {
 public:
  using owner::owner;

  /// The text that `tokens` add, as far as it is certain.
  fallible<std::string> push(token_view tokens) {
    return detail::fetch<std::string>(tokens.size() * 16, remask_decoder_push, get(), tokens.data(),
                                      tokens.size());
  }

  /// What is still held back; the decoder is then as new.
  fallible<std::string> finish() { return detail::fetch<std::string>(16, remask_decoder_finish, get()); }
};

/// A row of tokens, some given and some masked.
class canvas : public detail::owner<remask_canvas, remask_canvas_free> {
 public:
  using owner::owner;

  /// Appends fixed text; flags are `REMASK_ENCODE_*`.
  fallible<void> append_text(std::string_view text, std::uint32_t flags = 0) {
    return detail::check(remask_canvas_append_text, get(), detail::data_of(text), text.size(), flags);
  }

  /// Appends text with holes: `The [[4]] sat.` has 4 slots to fill; flags are `REMASK_ENCODE_*`.
  fallible<void> append_holes(std::string_view text, std::uint32_t flags = 0) {
    return detail::check(remask_canvas_append_holes, get(), detail::data_of(text), text.size(), flags);
  }

  /// Appends fixed tokens.
  fallible<void> append_tokens(token_view tokens) {
    return detail::check(remask_canvas_append_tokens, get(), tokens.data(), tokens.size());
  }

  /// Appends `n` slots for a run to fill.
  fallible<void> append_masks(std::size_t n) { return detail::check(remask_canvas_append_masks, get(), n); }

  /// Appends a conversation through the model's chat template; flags are `REMASK_CHAT_*`.
  fallible<void> append_chat(view<remask_message> messages, std::uint32_t flags = 0) {
    return detail::check(remask_canvas_append_chat, get(), messages.data(), messages.size(), flags);
  }

  /// Masks slots `[begin, end)` again, fixed ones too.
  fallible<void> mask(std::size_t begin = 0, std::size_t end = npos) {
    return detail::check(remask_canvas_mask, get(), begin, end);
  }

  /// Fixes what a run filled in `[begin, end)`.
  fallible<void> fix(std::size_t begin = 0, std::size_t end = npos) {
    return detail::check(remask_canvas_fix, get(), begin, end);
  }

  /// Puts fixed tokens into the slots from `begin` on.
  fallible<void> set(std::size_t begin, token_view tokens) {
    return detail::check(remask_canvas_set, get(), begin, tokens.data(), tokens.size());
  }

  /// Tokens that runs never put into slots `[begin, end)`; none allows all again.
  fallible<void> forbid(std::size_t begin, std::size_t end, token_view tokens) {
    return detail::check(remask_canvas_forbid, get(), begin, end, tokens.data(), tokens.size());
  }

  /// Removes everything from slot `n_slots` on.
  fallible<void> truncate(std::size_t n_slots) {
    return detail::check(remask_canvas_truncate, get(), n_slots);
  }

  /// Number of slots.
  fallible<std::size_t> size() const {
    const auto count = [this](std::size_t* to, remask_error** e) {
      return remask_canvas_count(get(), to, nullptr, e);
    };
    return detail::fill<std::size_t>(count);
  }

  /// Number of slots still masked.
  fallible<std::size_t> n_masked() const {
    return detail::fill<std::size_t>(remask_canvas_count, get(), nullptr);
  }

  /// The token of every slot.
  fallible<std::vector<std::int32_t>> tokens() const {
    return detail::fetch<std::vector<std::int32_t>>(64, remask_canvas_tokens, get());
  }

  /// The state of every slot (`REMASK_SLOT_*`).
  fallible<std::vector<std::uint8_t>> slots() const {
    return detail::fetch<std::vector<std::uint8_t>>(64, remask_canvas_slots, get());
  }

  /// Text of slots `[begin, end)`; flags are `REMASK_DECODE_*`.
  fallible<std::string> text(std::size_t begin = 0, std::size_t end = npos, std::uint32_t flags = 0) const {
    return detail::fetch<std::string>(256, remask_canvas_text, get(), begin, end, flags);
  }

  /// Text of everything after the last fixed slot; flags are `REMASK_DECODE_*`.
  fallible<std::string> response(std::uint32_t flags = 0) const {
    return detail::fetch<std::string>(256, remask_canvas_response, get(), flags);
  }

  /// A copy of the canvas as it is now.
  fallible<canvas> copy() const { return detail::make<canvas>(remask_canvas_copy, get()); }
};

/// What one step did to one canvas. Its arrays live until the run's next step and its end.
class step : public detail::sized<remask_step, remask_step_init> {
 public:
  /// Slots that this step filled, the surest first.
  view<change> changes() const noexcept { return {changed, n_changed}; }
  /// Token of every slot.
  token_view all_tokens() const noexcept { return {tokens, n_slots}; }
  /// State of every slot (`REMASK_SLOT_*`).
  view<std::uint8_t> all_slots() const noexcept { return {slots, n_slots}; }
};

/// A generation under way: an input range of steps, `for (const remask::step& step : run)`. Leaving the
/// loop early leaves the rest undone. The run uses its session and canvases until it goes.
class run : public detail::owner<remask_run, remask_run_free> {
 public:
  using owner::owner;

  /// Does one step on every canvas that is not finished and gives the report of the first.
  fallible<remask::step> next() { return detail::fill<remask::step>(remask_run_step, get()); }

  /// Starts what the next step computes, where GPUs compute all of it, and returns at once. Until that step
  /// `replace` fails with REMASK_STATUS_BUSY.
  fallible<void> begin_step() { return detail::check(remask_run_begin_step, get()); }

  /// The last step's report of canvas `i_canvas`.
  fallible<remask::step> report(std::size_t i_canvas) const {
    return detail::fill<remask::step>(remask_run_report, get(), i_canvas);
  }

  /// Puts `tokens` on canvas `i_canvas` between two steps.
  fallible<void> replace(std::size_t i_canvas, token_view tokens) {
    return detail::check(remask_run_replace, get(), i_canvas, tokens.data(), tokens.size());
  }

  /// Why the loop over the steps ended before its time, where errors are not thrown.
  const std::optional<remask::error>& failure() const noexcept { return failure_; }

  class iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = remask::step;
    using difference_type = std::ptrdiff_t;
    using pointer = const remask::step*;
    using reference = const remask::step&;

    iterator() = default;
    explicit iterator(run& of) : run_(&of) { advance(); }

    reference operator*() const noexcept { return step_; }
    pointer operator->() const noexcept { return &step_; }
    iterator& operator++() {
      if (step_.done != 0) {
        run_ = nullptr;
      } else {
        advance();
      }
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& a, const iterator& b) noexcept { return a.run_ == b.run_; }
    friend bool operator!=(const iterator& a, const iterator& b) noexcept { return a.run_ != b.run_; }

   private:
    void advance() {
#if REMASK_THROWS
      step_ = run_->next();
#else
      auto next = run_->next();
      if (next) {
        step_ = *next;
      } else {
        run_->failure_ = next.error();
        run_ = nullptr;
      }
#endif
    }

    run* run_ = nullptr;
    remask::step step_;
  };

  /// Does the next step. There is at least one report, also where nothing was masked.
  iterator begin() { return iterator(*this); }
  iterator end() const noexcept { return iterator(); }

 private:
  std::optional<remask::error> failure_;
};

/// What `session::choose` found.
struct choice {
  /// Index of the likeliest.
  std::size_t best = 0;
  /// One for each, in nats.
  std::vector<double> log_likelihoods;
  /// One for each; they sum to 1.
  std::vector<double> probabilities;
};

/// One stream of work on one model.
class session : public detail::owner<remask_session, remask_session_free> {
 public:
  using owner::owner;

  /// What the session has done.
  fallible<session_stats> stats() const {
    return detail::fill<session_stats>(remask_session_get_stats, get());
  }

  /// Starts a run that fills the masked slots of a canvas.
  fallible<run> start(canvas& canvas, const generate_params& params = {}) {
    return start_raw({canvas.get()}, params);
  }

  /// Starts a run on several canvases at once; on the CPU each comes out as it would alone.
  fallible<run> start(std::vector<canvas>& canvases, const generate_params& params = {}) {
    return start_raw(handles(canvases), params);
  }

  /// Fills every masked slot of a canvas.
  fallible<void> generate(canvas& canvas, const generate_params& params = {}) {
    return generate_raw({canvas.get()}, params, nullptr, nullptr, nullptr);
  }

  /// Fills every masked slot of several canvases at once.
  fallible<void> generate(std::vector<canvas>& canvases, const generate_params& params = {}) {
    return generate_raw(handles(canvases), params, nullptr, nullptr, nullptr);
  }

  /// Fills every masked slot and calls `on_step(const remask::step&)` after each step.
  template <class F>
  fallible<void> generate(canvas& canvas, const generate_params& params, F&& on_step) {
    return generate_with({canvas.get()}, params, on_step);
  }

  /// As above, for several canvases: called once for each that a step worked on.
  template <class F>
  fallible<void> generate(std::vector<canvas>& canvases, const generate_params& params, F&& on_step) {
    return generate_with(handles(canvases), params, on_step);
  }

  /// Estimates the log-likelihood of tokens `[begin, end)`, given all others.
  fallible<remask::score> score(token_view tokens, std::size_t begin = 0, std::size_t end = npos,
                                const score_params& params = {}) {
    return detail::fill<remask::score>(remask_session_score, get(), tokens.data(), tokens.size(), begin, end,
                                       &params);
  }

  /// Scores each of several continuations of one prompt.
  fallible<choice> choose(token_view prompt, const std::vector<std::vector<std::int32_t>>& choices,
                          const score_params& params = {}) {
    std::vector<remask_tokens> lists;
    lists.reserve(choices.size());
    for (const auto& tokens : choices) lists.push_back({tokens.data(), tokens.size()});
    choice found;
    found.log_likelihoods.resize(choices.size());
    found.probabilities.resize(choices.size());
    remask_error* e = nullptr;
    const auto status =
        remask_session_choose(get(), prompt.data(), prompt.size(), lists.data(), lists.size(), &params,
                              found.log_likelihoods.data(), found.probabilities.data(), &found.best, &e);
    return detail::give(status, e, std::move(found));
  }

  /// Logits of `rows` (none: of all slots), row-major `[n_rows, n_vocab]`.
  fallible<std::vector<float>> logits(token_view tokens, view<std::uint32_t> rows = {}) {
    return detail::fetch<std::vector<float>>(0, remask_session_logits, get(), tokens.data(), tokens.size(),
                                             rows.empty() ? nullptr : rows.data(), rows.size());
  }

  /// Hidden states after the final norm, row-major `[n_tokens, n_embd]`, or `[n_embd]` where they are
  /// pooled (`REMASK_POOLING_*`).
  fallible<std::vector<float>> embeddings(token_view tokens, remask_pooling pooling = REMASK_POOLING_MEAN) {
    return detail::fetch<std::vector<float>>(0, remask_session_embeddings, get(), tokens.data(),
                                             tokens.size(), pooling);
  }

 private:
  static std::vector<remask_canvas*> handles(const std::vector<canvas>& canvases) {
    std::vector<remask_canvas*> raw;
    raw.reserve(canvases.size());
    for (const auto& canvas : canvases) raw.push_back(canvas.get());
    return raw;
  }

  fallible<run> start_raw(const std::vector<remask_canvas*>& canvases, const generate_params& params) {
    return detail::make<run>(remask_run_new, get(), canvases.data(), canvases.size(), &params);
  }

  fallible<void> generate_raw(const std::vector<remask_canvas*>& canvases, const generate_params& params,
                              remask_step_fn on_step, void* user_data,
                              void (*settle)(void* user_data, remask_error* failure)) {
    remask_error* e = nullptr;
    const auto status =
        remask_session_generate(get(), canvases.data(), canvases.size(), &params, on_step, user_data, &e);
    if (settle != nullptr) settle(user_data, e);
    return detail::give(status, e);
  }

  template <class F>
  fallible<void> generate_with(const std::vector<remask_canvas*>& canvases, const generate_params& params,
                               F& on_step) {
    using guard = detail::guarded<F>;
    guard callback(on_step);
    const remask_step_fn forward = [](const remask_step* raw, void* self) noexcept -> std::int32_t {
      remask::step report;
      static_cast<remask_step&>(report) = *raw;
      return (*static_cast<guard*>(self))(report);
    };
    return generate_raw(canvases, params, forward, &callback, [](void* self, remask_error* failure) {
      static_cast<guard*>(self)->rethrow(failure);
    });
  }
};

/// A loaded model. Immutable: share it freely between threads and sessions.
class model : public detail::owner<remask_model, remask_model_free> {
 public:
  using owner::owner;

  /// Loads a model file; of a split one the first part.
  static fallible<model> load(std::string_view path, const load_params& params = {}) {
    return detail::make<model>(remask_model_load, detail::data_of(path), path.size(), &params);
  }

  /// As above; `on_progress(uint64_t done, uint64_t total)` hears how far it is, in place of the
  /// parameters' own.
  template <class F>
  static fallible<model> load(std::string_view path, load_params params, F&& on_progress) {
    detail::guarded<std::remove_reference_t<F>> callback(on_progress);
    params.on_progress = callback.on_progress;
    params.user_data = &callback;
    remask_model* raw = nullptr;
    remask_error* e = nullptr;
    const auto status = remask_model_load(detail::data_of(path), path.size(), &params, &raw, &e);
    model loaded(raw);
    callback.rethrow(e);
    return detail::give(status, e, std::move(loaded));
  }

  /// Loads a model from a copy of the bytes of a whole file.
  static fallible<model> load_memory(const void* bytes, std::size_t n_bytes, const load_params& params = {}) {
    return detail::make<model>(remask_model_load_memory, bytes, n_bytes, nullptr, nullptr, &params);
  }

  /// Loads a model from bytes that are used where they lie (if they begin at a multiple of 32) and must
  /// not change; `keep` is held as long as they are needed.
  static fallible<model> load_memory(const void* bytes, std::size_t n_bytes, std::shared_ptr<const void> keep,
                                     const load_params& params = {}) {
    using shared = std::shared_ptr<const void>;
    const remask_drop_fn drop = [](void* kept) noexcept { delete static_cast<shared*>(kept); };
    return detail::make<model>(remask_model_load_memory, bytes, n_bytes, drop, new shared(std::move(keep)),
                               &params);
  }

  /// Loads a model of `n_bytes` through `read_at(uint64_t offset, void* buffer, size_t n)`, which returns
  /// nothing, or false where it cannot.
  template <class F>
  static fallible<model> load_reader(std::uint64_t n_bytes, F&& read_at, const load_params& params = {}) {
    return load_reader_raw(n_bytes, read_at, params, [](remask_error*) {});
  }

  /// As above; `on_progress(uint64_t done, uint64_t total)` hears how far the reading is.
  template <class F, class P>
  static fallible<model> load_reader(std::uint64_t n_bytes, F&& read_at, load_params params,
                                     P&& on_progress) {
    detail::guarded<std::remove_reference_t<P>> callback(on_progress);
    params.on_progress = callback.on_progress;
    params.user_data = &callback;
    return load_reader_raw(n_bytes, read_at, params,
                           [&](remask_error* failure) { callback.rethrow(failure); });
  }

  /// Facts about the model.
  fallible<model_info> info() const { return detail::fill<model_info>(remask_model_get_info, get()); }

  /// Number of metadata entries.
  std::size_t meta_count() const noexcept { return remask_model_meta_count(get()); }

  /// Key of a metadata entry.
  fallible<std::string> meta_key(std::size_t index) const {
    return detail::fetch<std::string>(64, remask_model_meta_key, get(), index);
  }

  /// Value of a metadata entry as text; `REMASK_STATUS_NOT_FOUND` for an unknown key.
  fallible<std::string> meta_value(std::string_view key) const {
    return detail::fetch<std::string>(64, remask_model_meta_value, get(), detail::data_of(key), key.size());
  }

  /// Turns text into tokens; flags are `REMASK_ENCODE_*`.
  fallible<std::vector<std::int32_t>> encode(std::string_view text, std::uint32_t flags = 0) const {
    return detail::fetch<std::vector<std::int32_t>>(text.size() + 2, remask_model_encode, get(),
                                                    detail::data_of(text), text.size(), flags);
  }

  /// Turns tokens into text; flags are `REMASK_DECODE_*`.
  fallible<std::string> decode(token_view tokens, std::uint32_t flags = 0) const {
    return detail::fetch<std::string>(tokens.size() * 8, remask_model_decode, get(), tokens.data(),
                                      tokens.size(), flags);
  }

  /// Bytes that one token stands for; not always whole UTF-8.
  fallible<std::string> token_text(std::int32_t token) const {
    return detail::fetch<std::string>(32, remask_model_token_text, get(), token);
  }

  /// Bit set of `REMASK_TOKEN_*`.
  std::uint32_t token_attr(std::int32_t token) const noexcept {
    return remask_model_token_attr(get(), token);
  }

  /// Id of the token with this spelling; -1 if there is none.
  std::int32_t token_find(std::string_view spelling) const noexcept {
    return remask_model_token_find(get(), detail::data_of(spelling), spelling.size());
  }

  /// The prompt that the chat template makes, as text to look at; flags are `REMASK_CHAT_*`.
  fallible<std::string> render_chat(view<remask_message> messages, std::uint32_t flags = 0) const {
    return detail::fetch<std::string>(1024, remask_model_render_chat, get(), messages.data(), messages.size(),
                                      flags);
  }

  /// The tokens of that prompt.
  fallible<std::vector<std::int32_t>> encode_chat(view<remask_message> messages,
                                                  std::uint32_t flags = 0) const {
    return detail::fetch<std::vector<std::int32_t>>(256, remask_model_encode_chat, get(), messages.data(),
                                                    messages.size(), flags);
  }

  /// Makes an empty canvas.
  fallible<canvas> new_canvas() const { return detail::make<canvas>(remask_canvas_new, get()); }

  /// Makes a session, which keeps the model alive.
  fallible<session> new_session(const session_params& params = {}) const {
    return detail::make<session>(remask_session_new, get(), &params);
  }

  /// Makes a decoder; flags are `REMASK_DECODE_*`.
  fallible<decoder> new_decoder(std::uint32_t flags = 0) const {
    return detail::make<decoder>(remask_decoder_new, get(), flags);
  }

  /// What running the model on a canvas of `n_slots`, `n_masked` of them to fill, takes.
  fallible<estimate> estimate_for(std::size_t n_slots, std::size_t n_masked) const {
    return detail::fill<remask::estimate>(remask_estimate_model, get(), n_slots, n_masked);
  }

 private:
  template <class F, class Settle>
  static fallible<model> load_reader_raw(std::uint64_t n_bytes, F& read_at, const load_params& params,
                                         Settle settle) {
    using guard = detail::guarded<F>;
    guard callback(read_at);
    detail::sized<remask_reader, remask_reader_init> reader;
    reader.n_bytes = n_bytes;
    reader.read_at = [](std::uint64_t offset, void* buffer, std::size_t n,
                        void* self) noexcept -> std::int32_t {
      return (*static_cast<guard*>(self))(offset, buffer, n);
    };
    reader.user_data = &callback;
    remask_model* raw = nullptr;
    remask_error* e = nullptr;
    const auto status = remask_model_load_reader(&reader, &params, &raw, &e);
    model loaded(raw);
    callback.rethrow(e);
    settle(e);
    return detail::give(status, e, std::move(loaded));
  }
};

/// What the model in a file would take, from the file's header alone.
inline fallible<estimate> estimate_file(std::string_view path, std::size_t n_slots, std::size_t n_masked) {
  return detail::fill<remask::estimate>(remask_estimate_file, detail::data_of(path), path.size(), n_slots,
                                        n_masked);
}

namespace detail {

using write_fn = remask_status (*)(const char*, std::size_t, const char*, std::size_t,
                                   const remask_write_params*, remask_error**);

inline fallible<void> write(write_fn call, std::string_view input, std::string_view output,
                            const write_params& params) {
  remask_error* e = nullptr;
  const auto status = call(data_of(input), input.size(), data_of(output), output.size(), &params, &e);
  return give(status, e);
}

template <class F>
fallible<void> write(write_fn call, std::string_view input, std::string_view output, write_params params,
                     F& on_progress) {
  guarded<F> callback(on_progress);
  params.on_progress = callback.on_progress;
  params.user_data = &callback;
  remask_error* e = nullptr;
  const auto status = call(data_of(input), input.size(), data_of(output), output.size(), &params, &e);
  callback.rethrow(e);
  return give(status, e);
}

}  // namespace detail

/// Converts a Hugging Face checkpoint folder to a GGUF file.
inline fallible<void> convert(std::string_view input, std::string_view output,
                              const write_params& params = {}) {
  return detail::write(remask_convert, input, output, params);
}

/// As above; `on_progress(uint64_t done, uint64_t total)` hears how far it is.
template <class F>
fallible<void> convert(std::string_view input, std::string_view output, const write_params& params,
                       F&& on_progress) {
  return detail::write(remask_convert, input, output, params, on_progress);
}

/// Writes a model file as another type.
inline fallible<void> quantize(std::string_view input, std::string_view output,
                               const write_params& params = {}) {
  return detail::write(remask_quantize, input, output, params);
}

/// As above; `on_progress(uint64_t done, uint64_t total)` hears how far it is.
template <class F>
fallible<void> quantize(std::string_view input, std::string_view output, const write_params& params,
                        F&& on_progress) {
  return detail::write(remask_quantize, input, output, params, on_progress);
}

}  // namespace REMASK_FLAVOUR
}  // namespace remask

#endif  // REMASK_HPP
