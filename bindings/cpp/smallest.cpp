// The smallest program: a model, a prompt, 16 slots.
#include <iostream>
#include <remask.hpp>

int main(int argc, char** argv) try {
    if (argc != 3) {
        std::cerr << "smallest MODEL PROMPT\n";
        return 2;
    }
    const auto model = remask::model::load(argv[1]);
    auto canvas = model.new_canvas();
    canvas.append_text(argv[2]);
    canvas.append_masks(16);
    model.new_session().generate(canvas);
    std::cout << canvas.text() << "\n";
} catch (const remask::error& error) {
    std::cerr << error.what() << "\n";
    return 1;
}
