import Dispatch

extension Remask {
    /// Makes a blocking call on `queue`. Cancelling the task sets `token`, which the call has been given; it then
    /// ends with `CancellationError`.
    static func perform<T: Sendable>(
        on queue: DispatchQueue, _ token: CancelToken, _ body: @escaping @Sendable (CancelToken) throws -> T
    ) async throws -> T {
        try Task.checkCancellation()
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                queue.async {
                    continuation.resume(with: Result { try call(token, body) })
                }
            }
        } onCancel: {
            token.cancel()
        }
    }

    private static func call<T>(_ token: CancelToken, _ body: (CancelToken) throws -> T) throws -> T {
        do {
            // Cancelled while it waited its turn.
            if token.isCancelled {
                throw CancellationError()
            }
            return try body(token)
        } catch let error as RemaskError where error.status == .cancelled && token.isCancelled {
            throw CancellationError()
        }
    }
}
