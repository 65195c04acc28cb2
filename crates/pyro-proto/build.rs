//! Compiles the `.proto` files with `protox`, so that a build needs no `protoc` on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["proto/pyro/v1/common.proto", "proto/pyro/v1/guest.proto", "proto/pyro/v1/supervisor.proto"];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure()
        // Output chunks are passed on by reference count, never copied, between the two hops.
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
