// Remask from C++: generate with live steps, fill in holes, score.
//
//   remask_example generate MODEL "prompt"
//   remask_example infill   MODEL "The [[4]] sat on the [[3]]."
//   remask_example score    MODEL "prompt" " continuation" " another" ...
#include <cstdio>
#include <iostream>
#include <remask.hpp>

// Fills a canvas and shows each step: how many slots are left, and what was filled.
static void fill(const remask::model& model, remask::canvas& canvas) {
    auto session = model.new_session();
    auto run = session.start(canvas);
    for (const auto& step : run) {
        std::clog << "step " << step.i_step << " of " << step.n_steps << ", " << step.n_masked << " left:";
        for (const auto& change : step.changes()) {
            std::clog << " [" << change.slot << "]" << model.token_text(change.token) << " ("
                      << change.confidence << ")";
        }
        std::clog << "\n";
    }
    std::cout << canvas.text() << "\n";
}

static void score(const remask::model& model, const std::string& prompt,
                  const std::vector<std::string>& texts) {
    std::vector<std::vector<std::int32_t>> choices;
    for (const auto& text : texts) choices.push_back(model.encode(text));
    remask::score_params params;
    params.method = REMASK_SCORE_PSEUDO;
    const auto found = model.new_session().choose(model.encode(prompt), choices, params);
    for (std::size_t i = 0; i < texts.size(); ++i) {
        std::printf("%c %8.3f nats, %5.1f %%:%s\n", i == found.best ? '*' : ' ', found.log_likelihoods[i],
                    100 * found.probabilities[i], texts[i].c_str());
    }
}

int main(int argc, char** argv) try {
    const std::vector<std::string> args(argv + 1, argv + argc);
    if (args.size() < 3) {
        std::cerr << "remask_example generate|infill|score MODEL TEXT...\n";
        return 2;
    }
    const auto model = remask::model::load(args[1]);
    auto canvas = model.new_canvas();
    if (args[0] == "score") {
        score(model, args[2], {args.begin() + 3, args.end()});
    } else if (args[0] == "infill") {
        canvas.append_holes(args[2], REMASK_ENCODE_BOS);
        fill(model, canvas);
    } else {
        canvas.append_text(args[2], REMASK_ENCODE_BOS);
        canvas.append_masks(16);
        fill(model, canvas);
    }
    return 0;
} catch (const remask::error& error) {
    std::cerr << remask_status_name(error.status()) << ": " << error.what() << "\n";
    return 1;
}
