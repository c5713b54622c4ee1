// remask.hpp where exceptions are on: throwing MODEL FILE_TO_WRITE
#include <fstream>
#include <iterator>
#include <remask.hpp>
#include <stdexcept>

#include "check.h"

#if __cplusplus >= 202002L
#include <ranges>
#include <span>
static_assert(std::ranges::input_range<remask::run>);
#endif

// The other kind, in the same program (results.cpp).
void results(const char* path);

static_assert(!std::is_copy_constructible_v<remask::model> &&
              std::is_nothrow_move_constructible_v<remask::model>);
static_assert(std::is_same_v<decltype(remask::model::load("")), remask::model>);

template <class F>
static remask_status status_of(F call) {
    try {
        call();
    } catch (const remask::error& error) {
        CHECK(error.what()[0] != '\0');
        const remask::error copy = error;
        CHECK(std::string(copy.what()) == error.what());
        return error.status();
    }
    return REMASK_STATUS_OK;
}

static remask::canvas prompt(const remask::model& model, std::size_t n) {
    auto canvas = model.new_canvas();
    canvas.append_text("Once upon a time");
    canvas.append_masks(n);
    return canvas;
}

static void errors(const remask::model& model) {
    CHECK(status_of([] { remask::model::load("there is no such file"); }) == REMASK_STATUS_IO);
    CHECK(status_of([] { remask::model::load(std::string_view()); }) != REMASK_STATUS_OK);
    CHECK(status_of([&] { model.meta_value("no.such.key"); }) == REMASK_STATUS_NOT_FOUND);
    CHECK(status_of([&] { model.token_text(-7); }) == REMASK_STATUS_NOT_FOUND);
    remask::generate_params params;
    params.temperature = -1;
    auto session = model.new_session();
    auto canvas = prompt(model, 2);
    CHECK(status_of([&] { session.generate(canvas, params); }) == REMASK_STATUS_INVALID_ARGUMENT);
    // What was moved from is a NULL to the library, and nothing worse.
    auto moved = std::move(canvas);
    CHECK(moved && !canvas);
    CHECK(status_of([&] { canvas.append_masks(1); }) == REMASK_STATUS_INVALID_ARGUMENT);
    moved = prompt(model, 3);
    CHECK(moved.n_masked() == 3);
}

static void texts(const remask::model& model) {
    const auto info = model.info();
    CHECK(info.n_vocab > 0 && std::string_view(info.arch) == "llada");
    CHECK(model.meta_count() > 0 && model.meta_value("general.architecture") == "llada");
    CHECK(!model.meta_value(model.meta_key(model.meta_count() - 1)).empty());
    const std::string text = "Once upon a time";
    const auto tokens = model.encode(text);
    CHECK(!tokens.empty() && model.decode(tokens) == text);
    CHECK(model.encode("").empty() && model.decode(std::vector<std::int32_t>()).empty());
    auto decoder = model.new_decoder();
    std::string pieces;
    for (const auto token : tokens) pieces += decoder.push({&token, 1});
    pieces += decoder.finish();
    CHECK(pieces == text);
    std::string spelled;
    for (const auto token : tokens) spelled += model.token_text(token);
    CHECK(spelled == text);
    CHECK(model.token_find(model.token_text(info.mask_token)) == info.mask_token);
    CHECK((model.token_attr(info.mask_token) & REMASK_TOKEN_CONTROL) != 0);
    // Longer than any guess of a buffer.
    auto canvas = model.new_canvas();
    std::string long_text;
    for (int i = 0; i < 100; ++i) long_text += text + " ";
    canvas.append_text(long_text);
    CHECK(canvas.text() == long_text && canvas.tokens().size() == canvas.size());
    if (info.has_chat_template != 0) {
        const std::vector<remask_message> messages{remask::message("user", "hello")};
        CHECK(model.render_chat(messages).find("hello") != std::string::npos);
        auto chat = model.new_canvas();
        chat.append_chat(messages);
        CHECK(chat.tokens() == model.encode_chat(messages));
    }
}

static void canvases(const remask::model& model) {
    auto canvas = model.new_canvas();
    canvas.append_holes("The [[4]] sat.");
    CHECK(canvas.n_masked() == 4);
    const auto fixed = model.encode("cat");
    canvas.append_tokens(fixed);
    const auto copy = canvas.copy();
    canvas.truncate(1);
    CHECK(canvas.size() == 1 && copy.size() > 5);
    canvas.mask();
    CHECK(canvas.n_masked() == 1 && canvas.slots() == std::vector<std::uint8_t>{REMASK_SLOT_MASKED});
    canvas.set(0, {fixed.data(), 1});
    CHECK(canvas.n_masked() == 0 && canvas.tokens()[0] == fixed[0]);
}

static void runs(const remask::model& model) {
    auto session = model.new_session();
    auto whole = prompt(model, 6);
    session.generate(whole);
    CHECK(whole.n_masked() == 0 && whole.text().size() > whole.response().size());

    // The same, pulled.
    auto pulled = prompt(model, 6);
    {
        auto run = session.start(pulled);
        std::uint32_t n = 0;
        for (const auto& step : run) {
            ++n;
            CHECK(step.i_step == n && step.n_masked == 6 - n && step.changes().size() == 1);
            CHECK(step.all_tokens().size() == pulled.size() && step.all_slots().size() == pulled.size());
            CHECK(step.all_tokens()[step.changes()[0].slot] == step.changes()[0].token);
            CHECK(status_of([&] { session.score(model.encode("a time")); }) == REMASK_STATUS_BUSY);
        }
        CHECK(n == 6 && !run.failure());
    }
    CHECK(pulled.tokens() == whole.tokens());

    // Left in the middle, and gone on with.
    auto left = prompt(model, 6);
    {
        auto run = session.start(left);
        for (const auto& step : run) {
            if (step.i_step == 2) break;
        }
        CHECK(left.n_masked() == 4);
        run.replace(0, left.tokens());
        CHECK(run.next().n_masked == 3 && run.report(0).n_masked == 3);
        CHECK(status_of([&] { run.report(1); }) == REMASK_STATUS_NOT_FOUND);
    }
    CHECK(left.n_masked() == 3);

    // By callbacks: void, stopping, throwing.
    auto heard = prompt(model, 6);
    int n_steps = 0;
    session.generate(heard, {}, [&](const remask::step& step) {
        ++n_steps;
        CHECK(step.struct_size != 0);
    });
    CHECK(n_steps == 6 && heard.tokens() == whole.tokens());
    auto stopped = prompt(model, 6);
    CHECK(status_of([&] {
              session.generate(stopped, {}, [](const remask::step& step) { return step.i_step < 2; });
          }) == REMASK_STATUS_CANCELLED);
    CHECK(stopped.n_masked() == 4);
    std::string thrown;
    try {
        session.generate(stopped, {}, [](const remask::step&) { throw std::runtime_error("mine"); });
    } catch (const std::runtime_error& error) {
        thrown = error.what();
    }
    CHECK(thrown == "mine" && stopped.n_masked() == 3);

    // Many at once, each as it would be alone.
    std::vector<remask::canvas> many;
    for (std::size_t n = 4; n <= 6; ++n) many.push_back(prompt(model, n));
    session.generate(many);
    CHECK(many[2].tokens() == whole.tokens() && many[0].n_masked() == 0);

    remask::cancel cancel;
    cancel.set();
    CHECK(cancel.is_set());
    remask::generate_params params;
    params.cancel = cancel.get();
    auto never = prompt(model, 4);
    CHECK(status_of([&] { session.generate(never, params); }) == REMASK_STATUS_CANCELLED &&
          never.n_masked() == 4);
    cancel.reset();
    session.generate(never, params);
    CHECK(session.stats().n_runs > 5);
}

static void numbers(const remask::model& model) {
    auto session = model.new_session();
    const auto info = model.info();
    const auto tokens = model.encode("Once upon a time");
    const auto logits = session.logits(tokens);
    CHECK(logits.size() == tokens.size() * info.n_vocab);
    const std::vector<std::uint32_t> rows{1};
    const auto row = session.logits(tokens, rows);
    CHECK(row.size() == info.n_vocab && std::equal(row.begin(), row.end(), logits.begin() + info.n_vocab));
    CHECK(session.embeddings(tokens).size() == info.n_embd);
    CHECK(session.embeddings(tokens, REMASK_POOLING_NONE).size() == tokens.size() * info.n_embd);
#if __cplusplus >= 202002L
    CHECK(session.logits(std::span(tokens)).size() == logits.size());
#endif
    remask::score_params params;
    params.method = REMASK_SCORE_PSEUDO;
    const auto score = session.score(tokens, 1, remask::npos, params);
    CHECK(score.n_tokens == tokens.size() - 1 && score.log_likelihood < 0);
    const auto choice = session.choose(model.encode("Once upon"),
                                       {model.encode(" a time"), model.encode(" owl owl")}, params);
    CHECK(choice.best < 2 && choice.log_likelihoods[choice.best] >= choice.log_likelihoods[1 - choice.best]);
    CHECK(std::abs(choice.probabilities[0] + choice.probabilities[1] - 1) < 1e-9);
}

static void files(const char* path, const char* output) {
    const auto loaded =
        remask::model::load(path, {}, [](std::uint64_t done, std::uint64_t total) { CHECK(done <= total); });
    std::ifstream file(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    const auto whole = prompt(loaded, 0).tokens();
    const auto copied = remask::model::load_memory(bytes.data(), bytes.size());
    auto shared = std::make_shared<std::string>(bytes);
    std::weak_ptr<std::string> watch = shared;
    {
        const auto* data = shared->data();
        const auto borrowed = remask::model::load_memory(data, bytes.size(), std::move(shared));
        CHECK(borrowed.info().n_bytes == copied.info().n_bytes);
    }
    CHECK(watch.expired());
    CHECK(status_of([] { remask::model::load_memory("GGUF", 4, std::make_shared<int>(1)); }) ==
          REMASK_STATUS_FORMAT);
    const auto read =
        remask::model::load_reader(bytes.size(), [&](std::uint64_t offset, void* buffer, std::size_t n) {
            return bytes.copy(static_cast<char*>(buffer), n, static_cast<std::size_t>(offset)) == n;
        });
    CHECK(prompt(read, 0).tokens() == whole);
    std::uint64_t last = 0;
    const auto good = [&](std::uint64_t offset, void* buffer, std::size_t n) {
        bytes.copy(static_cast<char*>(buffer), n, static_cast<std::size_t>(offset));
    };
    const auto hear = [&](std::uint64_t done, std::uint64_t total) {
        CHECK(done >= last && done <= total);
        last = done;
    };
    remask::model::load_reader(bytes.size(), good, {}, hear);
    CHECK(last > 0);
    CHECK(status_of([&] {
              remask::model::load_reader(bytes.size(), good, {},
                                         [](std::uint64_t, std::uint64_t) { return false; });
          }) == REMASK_STATUS_CANCELLED);
    bool mine = false;
    try {
        remask::model::load_reader(bytes.size(), [](std::uint64_t, void*, std::size_t) -> bool { throw 7; });
    } catch (int) {
        mine = true;
    }
    CHECK(mine);
    CHECK(remask::estimate_file(path, 32, 8).weights == loaded.estimate_for(32, 8).weights);

    remask::write_params params;
    params.type_name = "q4_0";
    params.flags = REMASK_WRITE_REQUANTIZE | REMASK_WRITE_OVERWRITE;
    std::uint64_t n_bytes = 0;
    remask::quantize(path, output, params, [&](std::uint64_t done, std::uint64_t) { n_bytes = done; });
    CHECK(n_bytes > 0 && remask::model::load(output).info().n_bytes < loaded.info().n_bytes);
    CHECK(status_of([&] {
              remask::quantize(path, output, params, [](std::uint64_t, std::uint64_t) { return false; });
          }) == REMASK_STATUS_CANCELLED);
    CHECK(status_of([&] { remask::convert("no such folder", output); }) != REMASK_STATUS_OK);
    CHECK(status_of([&] { remask::load_backends("no such folder"); }) == REMASK_STATUS_UNSUPPORTED);
}

int main(int argc, char** argv) {
    CHECK(argc == 3);
    CHECK(remask::abi_matches() && !remask::version().empty() && !remask::devices().empty());
    {
        // A sink's end is heard, and a sink that throws harms nobody.
        auto alive = std::make_shared<int>(0);
        std::weak_ptr<int> watch = alive;
        remask::set_log(0, [alive = std::move(alive)](std::int32_t, std::string_view) { throw 1; });
        const auto model = remask::model::load(argv[1]);
        CHECK(!watch.expired());
        remask::set_log(nullptr);
        CHECK(watch.expired());
    }
    const auto model = remask::model::load(argv[1]);
    errors(model);
    texts(model);
    canvases(model);
    runs(model);
    numbers(model);
    files(argv[1], argv[2]);
    results(argv[1]);
}
