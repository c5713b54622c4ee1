// remask.hpp where exceptions are off; linked into one program with throwing.cpp.
#include <remask.hpp>

#include "check.h"

static_assert(std::is_same_v<decltype(remask::model::load("")), remask::result<remask::model>>);

void results(const char* path);
void results(const char* path) {
    const auto none = remask::model::load("there is no such file");
    CHECK(!none && none.error().status() == REMASK_STATUS_IO && none.error().what()[0] != '\0');

    const auto model = remask::model::load(path);
    CHECK(model);
    auto session = model->new_session();
    auto canvas = model->new_canvas();
    CHECK(session && canvas);
    CHECK(canvas->append_text("Once upon a time"));
    CHECK(canvas->append_masks(4).ok());
    CHECK(*canvas->n_masked() == 4);

    remask::cancel cancel;
    remask::generate_params params;
    params.cancel = cancel.get();
    {
        auto run = session->start(*canvas, params);
        CHECK(run);
        int n = 0;
        for (const auto& step : *run) {
            CHECK(step.changes().size() == 1);
            if (++n == 2) cancel.set();
        }
        // The loop ended at the third step, and says why.
        CHECK(n == 2 && run->failure() && run->failure()->status() == REMASK_STATUS_CANCELLED);
        const auto next = run->next();
        CHECK(!next && next.error().status() == REMASK_STATUS_CANCELLED);
    }
    const auto stopped = session->generate(*canvas, {}, [](const remask::step&) { return false; });
    CHECK(!stopped && stopped.error().status() == REMASK_STATUS_CANCELLED && *canvas->n_masked() == 1);
    CHECK(session->generate(*canvas));
    CHECK(*canvas->n_masked() == 0 && !canvas->text().value().empty());
    const auto text = canvas->response().value();
    CHECK(!text.empty());
}
