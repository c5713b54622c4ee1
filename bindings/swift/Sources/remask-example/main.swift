// Generates with live steps, fills holes, compares continuations:
//     remask-example MODEL
import Foundation
import Remask

/// What stands on a canvas now, with a mark for each slot that is still masked.
func show(_ model: Model, _ step: Step) throws -> String {
    var line = ""
    var known: [Int32] = []
    for (token, slot) in zip(step.tokens, step.slots) {
        if slot == .masked {
            line += try model.decode(known) + "_"
            known = []
        } else {
            known.append(token)
        }
    }
    return line + (try model.decode(known))
}

func generate(_ model: Model, _ session: Session) async throws {
    let canvas = try Canvas(model)
    try canvas.append(text: "Once upon a time")
    try canvas.append(masks: 16)
    let params = GenerateParams { $0.steps = 8 }
    for try await step in session.steps(canvas, params) {
        print("\(step.step)/\(step.nSteps)  \(try show(model, step))")
    }
}

func infill(_ model: Model, _ session: Session) async throws {
    let canvas = try Canvas(model)
    try canvas.append(holes: "The [[2]] sleeps in the [[2]].")
    try await session.generate(canvas)
    print(try canvas.text())
}

func score(_ model: Model, _ session: Session) async throws {
    let prompt = try model.encode("Once upon a time")
    let texts = [" there was a fox.", " of of of of of"]
    let choice = try await session.choose(
        prompt: prompt, choices: try texts.map { try model.encode($0) }, ScoreParams { $0.method = .pseudo })
    for (text, share) in zip(texts, choice.probabilities) {
        print(String(format: "%.4f ", share) + text)
    }
}

guard CommandLine.arguments.count == 2 else {
    FileHandle.standardError.write(Data("usage: remask-example MODEL\n".utf8))
    exit(2)
}
do {
    let model = try await Model.load(path: CommandLine.arguments[1])
    let session = try Session(model)
    try await generate(model, session)
    try await infill(model, session)
    try await score(model, session)
} catch {
    FileHandle.standardError.write(Data("remask-example: \(error)\n".utf8))
    exit(1)
}
