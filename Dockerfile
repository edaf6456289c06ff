# The podwright image: controller, agent and scripted model in one program, the agent's parent, and the sandbox's
# supervisor.
#
#   docker build -t REGISTRY/podwright:TAG .
#
# The arguments let a build without a registry use this file too (hack/image): BASE_IMAGE and BUILD_IMAGE
# may be local images, and BINARIES an image that has the three programs in /out.
ARG BASE_IMAGE=docker.io/library/debian:bookworm-slim
ARG BUILD_IMAGE=docker.io/library/rust:1.95-bookworm
ARG BINARIES=build

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
# The supervisor runs in every user's image, whatever C library that has: it is static, and built by a call
# of its own, since the flag breaks procedural macros and would rebuild everything else.
RUN cargo build --release --locked --package podwright --bins \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked \
        --package podwright-sandboxd --bin podwright-sandboxd \
        --target x86_64-unknown-linux-gnu --target-dir target/sandboxd \
    && mkdir /out \
    && cp target/release/podwright target/release/podwright-parent target/sandboxd/x86_64-unknown-linux-gnu/release/podwright-sandboxd /out/

FROM ${BINARIES} AS binaries

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="podwright" \
      org.opencontainers.image.licenses="Apache-2.0"
# git fetches a task's repository and makes its patch; the certificates are for it and for model endpoints.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates git \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
COPY --from=binaries --chmod=0755 /out/podwright /out/podwright-parent /usr/bin/
# Readable, since `podwright install` copies it into the sandbox.
COPY --from=binaries --chmod=0755 /out/podwright-sandboxd /usr/lib/podwright/podwright-sandboxd
# A number, so that the kubelet can see that it is not root. Agents run under a number of their own.
USER 65532:65532
ENTRYPOINT ["/usr/bin/podwright"]
