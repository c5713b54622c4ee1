// A program with a ggml of its own, the real one, and C++ templates that ggml in the library has too: linked
// with the static archive, neither may take the other's.
#include <ggml.h>

#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <regex>
#include <remask.hpp>
#include <unordered_map>

#include "check.h"

// The host's own ggml adds two numbers; on an empty context of the library's it could not.
static float add(float a, float b) {
    ggml_init_params params{};
    params.mem_size = 1 << 20;
    ggml_context* context = ggml_init(params);
    ggml_tensor* x = ggml_new_tensor_1d(context, GGML_TYPE_F32, 1);
    *static_cast<float*>(ggml_get_data(x)) = a;
    const float sum = ggml_get_data_f32(x)[0] + b;
    ggml_free(context);
    return sum;
}

int main(int argc, char** argv) {
    CHECK(argc == 2);
    CHECK(add(1, 2) == 3);
    std::map<std::string, std::vector<std::string>> names;
    std::unordered_map<std::string, int> counts;
    std::vector<int> numbers;
    for (int i = 0; i < 1000; ++i) {
        names[std::to_string(i % 7)].push_back(std::to_string(i));
        counts[std::to_string(i % 5)] += 1;
        numbers.push_back(i);
    }
    CHECK(names["3"].size() == 143 && counts["4"] == 200 && std::regex_match("ab", std::regex("a.")));
    try {
        names.at("none");
        CHECK(false);
    } catch (const std::out_of_range&) {
    }
    const auto model = remask::model::load(argv[1]);
    auto canvas = model.new_canvas();
    canvas.append_text("Once upon a time");
    canvas.append_masks(8);
    model.new_session().generate(canvas);
    CHECK(canvas.n_masked() == 0 && add(3, 4) == 7);
    std::cout << canvas.text() << "\n";
}
