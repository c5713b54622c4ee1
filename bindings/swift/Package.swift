// swift-tools-version:6.0
import PackageDescription

// On Apple's systems the library comes as CRemask.xcframework (see build-xcframework.sh); elsewhere as libremask
// of the system, found through pkg-config or by -L (see test-on-linux.sh).
#if os(macOS)
let native = Target.binaryTarget(name: "CRemask", path: "CRemask.xcframework")
#else
let native = Target.systemLibrary(name: "CRemask", path: "Sources/CRemask", pkgConfig: "remask")
#endif

let package = Package(
    name: "Remask",
    platforms: [.macOS(.v13), .iOS(.v16)],
    products: [.library(name: "Remask", targets: ["Remask"])],
    targets: [
        native,
        .target(
            name: "Remask",
            dependencies: ["CRemask"],
            // What the static library in the framework needs.
            linkerSettings: [.linkedLibrary("c++", .when(platforms: [.macOS, .iOS]))]
                + ["Accelerate", "Foundation", "Metal", "MetalKit"].map {
                    .linkedFramework($0, .when(platforms: [.macOS, .iOS]))
                }
        ),
        .executableTarget(name: "remask-example", dependencies: ["Remask"]),
        .testTarget(name: "RemaskTests", dependencies: ["Remask"]),
    ],
    swiftLanguageModes: [.v6]
)
