// A view that shows a text as it comes out of the masks. Put it into an app that has the package and the model
// file `little-world.gguf` among its resources.
import Remask
import SwiftUI

@MainActor
final class Story: ObservableObject {
    @Published private(set) var text = AttributedString()
    @Published private(set) var progress = 0.0
    @Published private(set) var failure: String?
    private var loaded: (model: Model, session: Session)?

    /// Ends when the view's task is cancelled: within a step.
    func write(_ beginning: String) async {
        failure = nil
        do {
            let (model, session) = try await open()
            let canvas = try Canvas(model)
            try canvas.append(text: beginning)
            try canvas.append(masks: 48)
            for try await step in session.steps(canvas, GenerateParams { $0.steps = 24 }) {
                text = try line(model, step)
                progress = Double(step.step) / Double(step.nSteps)
            }
        } catch is CancellationError {
            // The view is gone, or another text was asked for.
        } catch {
            failure = "\(error)"
        }
    }

    private func open() async throws -> (model: Model, session: Session) {
        if let loaded { return loaded }
        guard let url = Bundle.main.url(forResource: "little-world", withExtension: "gguf") else {
            throw CocoaError(.fileNoSuchFile)
        }
        // The file is mapped where it lies in the bundle: no copy.
        let model = try await Model.load(path: url.path)
        let opened = (model, try Session(model))
        loaded = opened
        return opened
    }

    /// Masked slots as dots, what came last in colour.
    private func line(_ model: Model, _ step: Step) throws -> AttributedString {
        let fresh = Set(step.changed.map(\.slot))
        var line = AttributedString()
        for (index, token) in step.tokens.prefix(step.end).enumerated() {
            var piece = AttributedString(step.slots[index] == .masked ? " ·" : try model.decode([token]))
            if fresh.contains(index) { piece.foregroundColor = .accentColor }
            line += piece
        }
        return line
    }
}

struct StoryView: View {
    @StateObject private var story = Story()
    @State private var beginning = "Once upon a time"
    @State private var asked = 0

    var body: some View {
        VStack(alignment: .leading, spacing: 16) {
            TextField("Beginning", text: $beginning)
                .textFieldStyle(.roundedBorder)
                .onSubmit { asked += 1 }
            ProgressView(value: story.progress)
            Text(story.text).frame(maxWidth: .infinity, alignment: .leading)
            if let failure = story.failure {
                Text(failure).foregroundStyle(.red)
            }
            Spacer()
        }
        .padding()
        // A new text cancels the one under way.
        .task(id: asked) { await story.write(beginning) }
    }
}
