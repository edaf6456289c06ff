//! How the programs are linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Relocations as a bitmap, 1.5 MiB less, all of which the loader reads in every process. It needs glibc 2.36, which
    // the image's base has.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
